#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>

#include "kernels/stream.h"
#include "kernels/tensor.h"

/// The experts: L feed-forward nets on R rows each. M model dim, F hidden columns held here (all H of them,
/// or a slice). Rows of an expert are contiguous; experts may be a stride apart (a chunk of a larger buffer).
/// @source numerics.md "Experts"
namespace flex {

class GemmAlgorithms;

enum class Activation : std::uint8_t { kGelu, kRelu, kSilu };
enum class FfnKind : std::uint8_t {
  kStandard,  ///< y = act(x fc1_w^T + fc1_bias) fc2_w + fc2_bias
  kGated,     ///< SwiGLU: y = (silu(x w1^T) * (x w2^T)) w3
};
[[nodiscard]] std::string_view name(Activation activation);
[[nodiscard]] std::optional<Activation> parse_activation(std::string_view text);  ///< gelu, relu, silu
[[nodiscard]] std::string_view name(FfnKind kind);
[[nodiscard]] std::optional<FfnKind> parse_ffn_kind(std::string_view text);  ///< standard, gated

/// True if what the forward pass keeps as `hidden` is what multiplies fc2_w.
[[nodiscard]] constexpr bool keeps_activated(FfnKind kind, Activation activation) {
  return kind == FfnKind::kStandard && activation == Activation::kRelu;
}
/// The activation of the experts' hidden rows: silu when gated.
[[nodiscard]] constexpr Activation activation_of(FfnKind kind, Activation activation) {
  return kind == FfnKind::kGated ? Activation::kSilu : activation;
}
/// Columns of an output of `model_dim` that a bias of `columns` entries from `begin` on covers; the rest of
/// the bias is padding.
[[nodiscard]] constexpr std::int64_t covered_columns(std::int64_t begin, std::int64_t columns,
                                                     std::int64_t model_dim) {
  return std::clamp(model_dim - begin, std::int64_t{0}, columns);
}

/// Weights of the L experts, or of a hidden slice of them. `View` is ConstTensorView for parameters,
/// TensorView for gradients. Biases may be left out.
template <class View>
struct ExpertParameters {
  View fc1_w{};     ///< (L, F, M); w1 when gated
  View up_w{};      ///< (L, F, M); w2, only when gated
  View fc2_w{};     ///< (L, F, M), not transposed; w3 when gated
  View fc1_bias{};  ///< (L, F)
  View fc2_bias{};  ///< (L, B): columns [fc2_bias_begin, fc2_bias_begin + B) of the output's bias; entries
                    ///< past column M are padding and ignored
};

struct ExpertFfnArgs {
  FfnKind kind = FfnKind::kStandard;
  Activation activation = Activation::kGelu;  ///< ignored when gated
  ExpertParameters<ConstTensorView> weights;
  std::int64_t fc2_bias_begin = 0;
  ConstTensorView x;  ///< (L, R, M)
  TensorView hidden;  ///< (L, R, F) out, what the backward pass needs: the pre-activation of fc1 (of w1), or
                      ///< with relu its positive part, whose sign tells the slope as well
  TensorView up{};    ///< (L, R, F) out: x w2^T, only when gated
  TensorView activated{};  ///< (L, R, F) out: what multiplies fc2_w; may be `hidden` itself when nothing is
                           ///< kept. With relu (standard) `hidden` is that already: not used, may be left out
  TensorView y;            ///< (L, R, M)
  GemmAlgorithms* gemm = nullptr;  ///< CUDA only: chooses the matrix products' algorithms
};
void expert_ffn(const ExpertFfnArgs& args, Stream& stream);

struct ExpertFfnBackwardDataArgs {
  FfnKind kind = FfnKind::kStandard;
  Activation activation = Activation::kGelu;
  ExpertParameters<ConstTensorView> weights;
  ConstTensorView dy;      ///< (L, R, M)
  ConstTensorView hidden;  ///< (L, R, F) from the forward pass
  ConstTensorView up{};    ///< (L, R, F), only when gated
  TensorView dhidden;      ///< (L, R, F) out: gradient of `hidden`; needed by the weight gradients
  TensorView dup{};        ///< (L, R, F) out, only when gated; may be the memory of `up`
  TensorView dx;           ///< (L, R, M) out; may be the memory of `dy`
  /// (L, Q, F) scratch, Q >= 1, optional: gradients by the activated values pass through it Q rows at a time.
  /// With it `dhidden` may be the memory of `hidden`.
  TensorView tile{};
  GemmAlgorithms* gemm = nullptr;  ///< CUDA only
};
/// Gradient of the rows: may run chunk by chunk.
void expert_ffn_backward_data(const ExpertFfnBackwardDataArgs& args, Stream& stream);

struct ExpertFfnBackwardWeightsArgs {
  FfnKind kind = FfnKind::kStandard;
  Activation activation = Activation::kGelu;
  ConstTensorView x;        ///< (L, R, M), all rows of the pass
  ConstTensorView dhidden;  ///< (L, R, F)
  ConstTensorView dup{};    ///< (L, R, F), only when gated
  ConstTensorView hidden;   ///< (L, R, F)
  ConstTensorView up{};     ///< (L, R, F), only when gated
  ConstTensorView dy;       ///< (L, R, M)
  TensorView activated{};   ///< (L, R, F): scratch that is overwritten with the activation; may be `hidden`'s
                            ///< memory. With relu (standard) not used, may be left out
  std::int64_t fc2_bias_begin = 0;
  ExpertParameters<TensorView> gradients;  ///< overwritten with sums over the rows; a bias that is left out
                                           ///< is not computed; padding of fc2_bias gets zeros
  GemmAlgorithms* gemm = nullptr;          ///< CUDA only
};
/// Gradients of the weights over all rows at once, so that the pipeline degree changes no bit of them. The
/// two layers' gradients are apart, since the second's need only the forward pass and dy: computed before
/// expert_ffn_backward_data, it leaves `hidden` and `dy` to be overwritten there.
///
/// Of the first layer: fc1_w, up_w and fc1_bias of `gradients`, from x, dhidden and dup; the rest may be left
/// out.
void expert_ffn_backward_fc1(const ExpertFfnBackwardWeightsArgs& args, Stream& stream);
/// Of the second layer: fc2_w and fc2_bias of `gradients`, from hidden, up and dy; the rest may be left out.
void expert_ffn_backward_fc2(const ExpertFfnBackwardWeightsArgs& args, Stream& stream);

template <class T>
void expert_ffn_cpu(const ExpertFfnArgs& args);
template <class T>
void expert_ffn_backward_data_cpu(const ExpertFfnBackwardDataArgs& args);
template <class T>
void expert_ffn_backward_fc1_cpu(const ExpertFfnBackwardWeightsArgs& args);
template <class T>
void expert_ffn_backward_fc2_cpu(const ExpertFfnBackwardWeightsArgs& args);

#ifdef FLEX_HAS_CUDA
void expert_ffn_cuda(const ExpertFfnArgs& args, Stream& stream);
void expert_ffn_backward_data_cuda(const ExpertFfnBackwardDataArgs& args, Stream& stream);
void expert_ffn_backward_fc1_cuda(const ExpertFfnBackwardWeightsArgs& args, Stream& stream);
void expert_ffn_backward_fc2_cuda(const ExpertFfnBackwardWeightsArgs& args, Stream& stream);
#endif

}  // namespace flex
