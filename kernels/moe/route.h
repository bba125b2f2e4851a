#pragma once

#include <cstdint>

#include "kernels/stream.h"
#include "kernels/tensor.h"

/// From logits to places: which experts a token takes, with what weight, and at which slot.
/// T tokens, E experts, k choices. @source numerics.md "Routing"
namespace flex {

struct RouteArgs {
  ConstTensorView logits;          ///< (T, E) in the gate's type, noise included
  bool normalize_gate = true;      ///< divide a token's gate weights by their sum over all k choices (k > 1)
  bool batch_prioritized = false;  ///< order tokens by descending largest score instead of by index
  TensorView scores;               ///< (T, E) out: softmax of logits
  TensorView indices;  ///< (T, k) i32 out: chosen experts, best first; ties go to the lower expert
  TensorView gates;  ///< (T, k) out in the gate's type: weight of each choice, kept also where it is dropped
  TensorView locations;  ///< (T, k) i32 out: tokens before this one at the same expert; all first choices
                         ///< come before any second choice
  TensorView counts;     ///< (E) i32 out: choices (t, j) that want the expert, before any are dropped
  TensorView needed_capacity;  ///< (1) i32 out: the largest count
  TensorView workspace;        ///< (bytes) u8 of route_workspace_bytes
};

/// Scratch that route() needs on `device`.
[[nodiscard]] std::int64_t route_workspace_bytes(std::int64_t num_tokens, std::int64_t num_experts,
                                                 std::int64_t top_k, DType gate_type, Device device);

/// What needed_capacity holds where CUDA met a NaN or infinite logit.
inline constexpr std::int32_t kRouteNotFinite = -1;

/// Softmax, top-k, gate weights, locations and counts. A NaN or infinite logit is an InputError that names
/// token and expert. On the CPU it is raised when the stream is next synchronized. CUDA cannot throw: there
/// the token's scores and gates are what the arithmetic gives (NaN, as a rule), its experts and places are
/// legal, needed_capacity is kRouteNotFinite, and check_routed_blocking() throws. @throws InputError for
/// shapes that disagree or k > E.
void route(const RouteArgs& args, Stream& stream);

/// Waits for the stream and throws what the last route() with these arguments found in its logits; the
/// workspace must not have been used for anything else since. @throws InputError that names token and expert.
void check_routed_blocking(const RouteArgs& args, Stream& stream);

struct RouteBackwardArgs {
  ConstTensorView scores;   ///< (T, E)
  ConstTensorView indices;  ///< (T, k)
  ConstTensorView dgates;   ///< (T, k) gradient of the gate weights, zero for dropped choices
  bool normalize_gate = true;
  TensorView dlogits;  ///< (T, E) overwritten
};
/// Through the normalization (in which dropped choices take part) and the softmax.
void route_backward(const RouteBackwardArgs& args, Stream& stream);

/// Smallest sum of gate weights that normalize_gate divides by: the epsilon of the gate's type.
[[nodiscard]] double gate_sum_floor(DType gate_type);

/// Slots per expert and source rank. `max_tokens` is the largest T over the ranks, `needed` the largest count
/// of any expert on any rank (used when f <= 0). Product and floor in double.
///   f > 0: k * floor(f * ceil(max_tokens / E));  f = 0: needed;  f < 0: min(needed, k * floor(-f *
///   ceil(max_tokens / E))).
/// @throws InputError if f is not finite or the result would overflow.
/// @source numerics.md "Routing" 4; the floor comes before the product with k, as in Tutel.
[[nodiscard]] std::int64_t expert_capacity(std::int64_t top_k, double capacity_factor,
                                           std::int64_t max_tokens, std::int64_t num_experts,
                                           std::int64_t needed);

template <class T>
void route_cpu(const RouteArgs& args);
template <class T>
void route_backward_cpu(const RouteBackwardArgs& args);

#ifdef FLEX_HAS_CUDA
void route_cuda(const RouteArgs& args, Stream& stream);
void route_backward_cuda(const RouteBackwardArgs& args, Stream& stream);
[[nodiscard]] std::int64_t route_workspace_bytes_cuda(std::int64_t num_tokens, std::int64_t num_experts,
                                                      std::int64_t top_k, DType gate_type);
/// Flat index of the first logit that is not finite, or -1.
[[nodiscard]] std::int64_t route_first_bad_logit_blocking_cuda(const RouteArgs& args, Stream& stream);
#endif

}  // namespace flex
