#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "kernels/stream.h"
#include "kernels/tensor.h"

/// Auxiliary losses on the gate, in three steps so that the sums can be taken over all ranks in between:
/// sums over this rank's tokens, (all-reduce), value, gradient. T tokens, E experts, k choices.
/// @source numerics.md "Losses on the gate"
namespace flex {

enum class GateLossKind : std::uint8_t {
  kNone,
  kGshard,          ///< E / T^2 * sum_e (sum_t scores[t,e]) * n_e, n_e = tokens whose first choice is e
  kLoadImportance,  ///< (cv2(importance) + cv2(load)) / 2, load compares logits with logits
  kLoadImportanceReleased,  ///< as published: load compares softmax(clean) with the noisy logit of the last
                            ///< choice
};
[[nodiscard]] std::string_view name(GateLossKind kind);
/// none, gshard, load_importance, load_importance_released.
[[nodiscard]] std::optional<GateLossKind> parse_gate_loss(std::string_view text);

struct GateLossSettings {
  GateLossKind kind = GateLossKind::kGshard;
  double gate_noise = 0.0;   ///< load_importance*: stddev of the noise is gate_noise / E; must be > 0 there
  double z_loss_weight = 0;  ///< adds z_loss_weight * mean over tokens of logsumexp(clean logits)^2
};

/// Length of the vector of sums: [0, E) sum of scores or importance, [E, 2E) n_e or load, both 0 for kNone,
/// then sum of logsumexp(clean)^2, 0 without a z_loss_weight, then T.
[[nodiscard]] constexpr std::int64_t gate_loss_num_sums(std::int64_t num_experts) {
  return 2 * num_experts + 2;
}

struct GateLossSumsArgs {
  GateLossSettings settings;
  ConstTensorView scores;   ///< (T, E) softmax of the noisy logits
  ConstTensorView clean;    ///< (T, E) logits before the noise; not read for the gshard loss alone
  ConstTensorView noisy;    ///< (T, E) logits after it (the same memory when there is none)
  ConstTensorView indices;  ///< (T, k) i32
  TensorView sums;          ///< (gate_loss_num_sums(E)) fp64, overwritten
  TensorView workspace{};   ///< (bytes) u8 of gate_loss_workspace_bytes
};
[[nodiscard]] std::int64_t gate_loss_workspace_bytes(std::int64_t num_tokens, std::int64_t num_experts,
                                                     Device device);
/// @throws InputError if a load_importance loss has gate_noise <= 0.
void gate_loss_sums(const GateLossSumsArgs& args, Stream& stream);

struct GateLossValueArgs {
  GateLossSettings settings;
  ConstTensorView sums;  ///< over all tokens of the scope
  TensorView value;      ///< (1) in the gate's type; 0 when there are no tokens
};
void gate_loss_value(const GateLossValueArgs& args, Stream& stream);

struct GateLossBackwardArgs {
  GateLossSettings settings;
  ConstTensorView scores;
  ConstTensorView clean;
  ConstTensorView noisy;
  ConstTensorView indices;
  ConstTensorView sums;  ///< over all tokens of the scope
  double dvalue = 0.0;   ///< gradient of the total loss by this loss
  TensorView dlogits;    ///< (T, E), added to
};
void gate_loss_backward(const GateLossBackwardArgs& args, Stream& stream);

template <class T>
void gate_loss_sums_cpu(const GateLossSumsArgs& args);
template <class T>
void gate_loss_value_cpu(const GateLossValueArgs& args);
template <class T>
void gate_loss_backward_cpu(const GateLossBackwardArgs& args);

#ifdef FLEX_HAS_CUDA
void gate_loss_sums_cuda(const GateLossSumsArgs& args, Stream& stream);
void gate_loss_value_cuda(const GateLossValueArgs& args, Stream& stream);
void gate_loss_backward_cuda(const GateLossBackwardArgs& args, Stream& stream);
[[nodiscard]] std::int64_t gate_loss_workspace_bytes_cuda(std::int64_t num_tokens, std::int64_t num_experts);
#endif

}  // namespace flex
