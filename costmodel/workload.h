#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/dtype.h"
#include "kernels/moe/expert_ffn.h"

namespace flex {

enum class Pass : std::uint8_t { kForward, kBackward };
[[nodiscard]] std::string_view name(Pass pass);

/// Which gate makes the logits.
enum class GateKind : std::uint8_t { kLinear, kCosine };
[[nodiscard]] std::string_view name(GateKind kind);

/// One pass of one MoE layer, as every rank knows it after the agreement: what a schedule is built from, and
/// what a cost model predicts. Sizes are elements and rows, not bytes.
struct Workload {
  int world = 1;                 ///< W, ranks
  std::int64_t num_experts = 1;  ///< E in the whole layer; W % E == 0 or E % W == 0
  std::int64_t num_tokens = 0;   ///< T, the largest over the ranks
  std::int64_t capacity = 0;     ///< C, slots per expert and source rank, before rounding
  std::int64_t top_k = 1;        ///< k
  std::int64_t model_dim = 1;    ///< M
  std::int64_t hidden_dim = 1;   ///< H of a whole expert; divisible by shards()
  DType dtype = DType::kF32;
  Pass pass = Pass::kForward;

  FfnKind ffn = FfnKind::kStandard;
  bool fc1_bias = true;
  bool fc2_bias = true;        ///< stored (and gathered)
  bool train_fc2_bias = true;  ///< its gradient is computed and reduced
  bool is_postscore = true;    ///< gate weights are applied when decoding
  GateKind gate = GateKind::kLinear;
  std::int64_t projection_dim = 256;  ///< of the cosine gate
  bool gate_noise = false;            ///< noise is drawn in this pass
  bool gate_loss = true;              ///< an auxiliary loss is formed
  bool global_loss_scope = true;      ///< over the tokens of all ranks
  bool dropless = false;              ///< f <= 0: the capacity comes from the counts, through the host
  bool agree_on_tokens = true;        ///< token counts may differ, so the ranks exchange them first
  bool regather_weights = false;      ///< the backward pass gathers weights again instead of keeping them

  /// Ranks that share one expert (s); 1 when every rank holds whole experts.
  [[nodiscard]] constexpr std::int64_t shards() const {
    return world > num_experts ? world / num_experts : 1;
  }
  /// Whole experts per rank; 1 when experts are shared.
  [[nodiscard]] constexpr std::int64_t local_experts() const {
    return world > num_experts ? 1 : num_experts / world;
  }
  /// C rounded up to a multiple of shards(): what buffers hold.
  [[nodiscard]] constexpr std::int64_t padded_capacity() const {
    return (capacity + shards() - 1) / shards() * shards();
  }
  /// Width of one rank's slice of fc2_bias; the last slices may reach past M and are padded.
  [[nodiscard]] constexpr std::int64_t fc2_bias_slice() const {
    return (model_dim + shards() - 1) / shards();
  }

  friend constexpr bool operator==(const Workload&, const Workload&) = default;
};

/// @throws InputError naming the first size that cannot be: zero or negative dimensions, experts that neither
/// divide nor are divided by the ranks, H not divisible by the ranks of an expert, k outside [1, E].
void validate(const Workload& workload);

}  // namespace flex
