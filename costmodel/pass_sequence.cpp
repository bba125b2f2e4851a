#include "costmodel/pass_sequence.h"

#include "base/require.h"
#include "costmodel/plan_pair.h"

namespace flex {

void build_shared_gradients_into(Schedule& schedule, const Workload& workload, std::int64_t bytes) {
  require(bytes >= 0, "{} bytes of shared gradients; they are zero or more", bytes);
  schedule.part = Part::kExpert;
  schedule.workload = workload;
  schedule.plan = kDefaultPlan;
  schedule.operations.assign(1, {.kind = OperationKind::kReduceSharedGradients,
                                 .stream = StreamKind::kCommunication,
                                 .size = {.peers = workload.world, .bytes_per_peer = bytes, .bytes = bytes}});
}

void PassSequence::build(const LayerStack& stack, std::span<const std::int64_t> counts,
                         std::int64_t usual_count) {
  require(stack.num_layers >= 1, "{} layers; a stack has at least 1", stack.num_layers);
  const std::int64_t per_layer = stack.workload.world * stack.workload.num_experts;
  require(counts.empty() || static_cast<std::int64_t>(counts.size()) == stack.num_layers * per_layer,
          "{} counts; {} layer(s) of {} ranks with {} experts have {}", counts.size(), stack.num_layers,
          stack.workload.world, stack.workload.num_experts, stack.num_layers * per_layer);
  const auto counts_of = [&](std::int64_t layer) {
    return counts.empty() ? counts
                          : counts.subspan(static_cast<std::size_t>(layer * per_layer),
                                           static_cast<std::size_t>(per_layer));
  };
  if (stack.passes == Passes::kBoth) check_pair({stack.forward, stack.backward});
  passes_.clear();
  Workload workload = stack.workload;
  if (stack.passes != Passes::kBackward) {
    workload.pass = Pass::kForward;
    build_schedule_into(route_, Part::kRoute, workload, kDefaultPlan, stack.cluster);
    build_schedule_into(forward_, Part::kExpert, workload, stack.forward, stack.cluster);
    for (std::int64_t layer = 0; layer < stack.num_layers; ++layer) {
      passes_.push_back({.schedule = &route_, .counts = counts_of(layer), .usual_count = usual_count});
      passes_.push_back({.schedule = &forward_, .counts = counts_of(layer), .usual_count = usual_count});
    }
  }
  if (stack.passes != Passes::kForward) {
    workload.pass = Pass::kBackward;
    build_schedule_into(backward_, Part::kExpert, workload, stack.backward, stack.cluster);
    for (std::int64_t layer = stack.num_layers - 1; layer >= 0; --layer) {
      passes_.push_back({.schedule = &backward_, .counts = counts_of(layer), .usual_count = usual_count});
    }
  }
  if (stack.shared_gradient_bytes > 0 && workload.world > 1) {
    build_shared_gradients_into(shared_, workload, stack.shared_gradient_bytes);
    passes_.push_back({.schedule = &shared_});
  }
}

}  // namespace flex
