#include "costmodel/traffic.h"

namespace flex {
namespace {

std::int64_t& at(TrafficBytes& bytes, Traffic traffic) { return bytes[static_cast<std::size_t>(traffic)]; }

std::int64_t expert_weight_bytes(const Workload& w, std::int64_t r, bool gradients) {
  const std::int64_t s = w.shards();
  const bool bias = w.ffn == FfnKind::kStandard && w.fc2_bias && (!gradients || w.train_fc2_bias);
  std::int64_t matrices = (w.ffn == FfnKind::kGated ? 3 : 2) * w.hidden_dim * w.model_dim;
  if (w.ffn == FfnKind::kStandard && w.fc1_bias) matrices += w.hidden_dim;
  const std::int64_t covered = bias ? w.fc2_bias_slice() : 0;  // of one slice
  if (r == 0) return w.world > 1 ? w.num_experts * (matrices + s * covered) * size_bytes(w.dtype) : 0;
  if (s / r == 1) return 0;
  return (matrices / r + s / r * covered) * size_bytes(w.dtype);
}

std::int64_t gate_gradient_bytes(const Workload& w) {
  const std::int64_t elements = w.gate == GateKind::kLinear
                                    ? w.num_experts * w.model_dim
                                    : w.projection_dim * (w.model_dim + 1 + w.num_experts) + 1;
  return elements * size_bytes(gate_dtype(w.dtype));
}

}  // namespace

std::string_view name(Traffic traffic) {
  switch (traffic) {
    case Traffic::kDispatch:
      return "dispatch";
    case Traffic::kDispatchIntra:
      return "dispatch_intra";
    case Traffic::kCombine:
      return "combine";
    case Traffic::kCombineIntra:
      return "combine_intra";
    case Traffic::kWeights:
      return "weights";
    case Traffic::kGradients:
      return "gradients";
    case Traffic::kGate:
      return "gate";
    case Traffic::kControl:
      return "control";
    case Traffic::kOther:
      return "other";
  }
  return "?";
}

TrafficBytes expected_traffic(const Workload& w, const Plan& plan) {
  TrafficBytes bytes{};
  if (w.world == 1) return bytes;
  const std::int64_t r = plan.parallel_degree;
  const std::int64_t exchange = w.num_experts * w.padded_capacity() * w.model_dim * r * size_bytes(w.dtype);
  at(bytes, Traffic::kDispatch) = at(bytes, Traffic::kCombine) = exchange;
  if (plan.all_to_all == AllToAllAlgorithm::kHierarchical2d) {
    at(bytes, Traffic::kDispatchIntra) = at(bytes, Traffic::kCombineIntra) = exchange;
  }
  if (w.pass == Pass::kForward) {
    constexpr std::int64_t kSumBytes =
        8;  // the sums of the losses are in double: two per expert and two more
    at(bytes, Traffic::kWeights) = expert_weight_bytes(w, r, false);
    at(bytes, Traffic::kGate) = w.gate_loss && w.global_loss_scope ? (2 * w.num_experts + 2) * kSumBytes : 0;
  } else {
    at(bytes, Traffic::kWeights) = w.regather_weights ? expert_weight_bytes(w, r, false) : 0;
    at(bytes, Traffic::kGradients) = expert_weight_bytes(w, r, true);
    at(bytes, Traffic::kGate) = gate_gradient_bytes(w);
  }
  return bytes;
}

}  // namespace flex
