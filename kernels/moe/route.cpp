#include "kernels/moe/route.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "kernels/check.h"

namespace flex {
namespace {

void check_route(const RouteArgs& args, Device device) {
  const ArgumentCheck check("route", device);
  const DType dtype = args.logits.dtype;
  const std::int64_t tokens = args.logits.size(0);
  const std::int64_t experts = args.logits.size(1);
  const std::int64_t top_k = args.indices.size(1);
  check.require_gate_dtype("logits", dtype);
  check.tensor("logits", args.logits, dtype, {tokens, experts});
  require(tokens <= std::numeric_limits<std::int32_t>::max(),
          "route: {} tokens are more than a count of i32 holds", tokens);
  check.tensor("indices", args.indices, DType::kI32, {tokens, top_k});
  require(top_k >= 1 && top_k <= experts, "route: top-k is {}, expected 1 to the {} experts", top_k, experts);
  check.tensor("scores", args.scores, dtype, {tokens, experts});
  check.tensor("gates", args.gates, dtype, {tokens, top_k});
  check.tensor("locations", args.locations, DType::kI32, {tokens, top_k});
  check.tensor("counts", args.counts, DType::kI32, {experts});
  check.tensor("needed_capacity", args.needed_capacity, DType::kI32, {1});
  check.workspace(args.workspace, route_workspace_bytes(tokens, experts, top_k, dtype, device));
}

void check_route_backward(const RouteBackwardArgs& args, Device device) {
  const ArgumentCheck check("route_backward", device);
  const DType dtype = args.scores.dtype;
  const std::int64_t tokens = args.scores.size(0);
  const std::int64_t experts = args.scores.size(1);
  const std::int64_t top_k = args.indices.size(1);
  check.require_gate_dtype("scores", dtype);
  check.tensor("scores", args.scores, dtype, {tokens, experts});
  check.tensor("indices", args.indices, DType::kI32, {tokens, top_k});
  require(top_k >= 1 && top_k <= experts, "route_backward: top-k is {}, expected 1 to the {} experts", top_k,
          experts);
  check.tensor("dgates", args.dgates, dtype, {tokens, top_k});
  check.tensor("dlogits", args.dlogits, dtype, {tokens, experts});
}

// k * floor(factor * ceil(max_tokens / E)), or nothing where that is beyond 64 bits.
std::optional<std::int64_t> slots_of_factor(std::int64_t top_k, double factor, std::int64_t max_tokens,
                                            std::int64_t num_experts) {
  constexpr double kTooLarge = 9223372036854775808.0;  // 2^63
  const std::int64_t samples_per_expert = max_tokens / num_experts + (max_tokens % num_experts != 0 ? 1 : 0);
  const double slots = std::floor(factor * static_cast<double>(samples_per_expert));
  if (!(slots < kTooLarge)) return std::nullopt;
  std::int64_t product = 0;
  if (__builtin_mul_overflow(top_k, static_cast<std::int64_t>(slots), &product)) return std::nullopt;
  return product;
}

}  // namespace

std::int64_t route_workspace_bytes(std::int64_t num_tokens, [[maybe_unused]] std::int64_t num_experts,
                                   [[maybe_unused]] std::int64_t top_k, [[maybe_unused]] DType gate_type,
                                   [[maybe_unused]] Device device) {
#ifdef FLEX_HAS_CUDA
  if (device.is_cuda()) return route_workspace_bytes_cuda(num_tokens, num_experts, top_k, gate_type);
#endif
  return num_tokens * size_bytes(DType::kI32);  // the order of the tokens
}

void route(const RouteArgs& args, Stream& stream) {
  check_route(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return route_cuda(args, stream);
#endif
  enqueue_as(args.logits.dtype, stream, [args]<class T>() { route_cpu<T>(args); });
}

void check_routed_blocking([[maybe_unused]] const RouteArgs& args, Stream& stream) {
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) {
    const std::int64_t bad = route_first_bad_logit_blocking_cuda(args, stream);
    if (bad < 0) return;
    const std::int64_t experts = args.logits.size(1);
    float logit = 0.0F;
    copy_blocking({&logit, DType::kF32, {1}},
                  {args.logits.as<float>() + bad, DType::kF32, {1}, args.logits.device});
    fail("route: the logit of token {} for expert {} is {}, expected a finite number", bad / experts,
         bad % experts, logit);
  }
#endif
  stream.synchronize_blocking();
}

void route_backward(const RouteBackwardArgs& args, Stream& stream) {
  check_route_backward(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return route_backward_cuda(args, stream);
#endif
  enqueue_as(args.scores.dtype, stream, [args]<class T>() { route_backward_cpu<T>(args); });
}

double gate_sum_floor(DType gate_type) {
  return gate_type == DType::kF64 ? std::numeric_limits<double>::epsilon()
                                  : static_cast<double>(std::numeric_limits<float>::epsilon());
}

std::int64_t expert_capacity(std::int64_t top_k, double capacity_factor, std::int64_t max_tokens,
                             std::int64_t num_experts, std::int64_t needed) {
  require(std::isfinite(capacity_factor), "capacity factor is {}, expected a finite number", capacity_factor);
  require(num_experts >= 1 && top_k >= 1 && top_k <= num_experts,
          "expert_capacity: top-k is {} with {} experts, expected 1 <= k <= experts", top_k, num_experts);
  require(max_tokens >= 0 && needed >= 0, "expert_capacity: {} tokens need {} slots; both are 0 or more",
          max_tokens, needed);
  if (capacity_factor == 0.0) return needed;
  const auto slots = slots_of_factor(top_k, std::abs(capacity_factor), max_tokens, num_experts);
  if (capacity_factor < 0.0) return slots ? std::min(needed, *slots) : needed;
  require(slots.has_value(),
          "capacity factor {} with top-{} of {} experts and {} tokens gives more than 2^63 slots",
          capacity_factor, top_k, num_experts, max_tokens);
  return *slots;
}

}  // namespace flex
