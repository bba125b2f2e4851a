#include "traces/replay/load_simulator.h"

#include <span>

namespace flex {

const Simulation& LoadSimulator::simulate(const ReplayLoad& load, const Plan& plan, Pass pass) {
  const Workload& workload = load.load.workload;
  const bool needs_counts = !load.has_even_tokens || plan.expert_kernel == ExpertKernel::kCounted;
  if (needs_counts && dense_of_ != &load) {
    dense_ = load.counts.dense(workload.world, workload.num_experts);
    dense_of_ = &load;
  }
  const LayerStack stack{.workload = workload,
                         .forward = plan,
                         .backward = plan,
                         .cluster = cluster_,
                         .passes = pass == Pass::kForward ? Passes::kForward : Passes::kBackward};
  sequence_.build(stack,
                  needs_counts ? std::span<const std::int64_t>(dense_) : std::span<const std::int64_t>{});
  return simulator_.run(sequence_.passes(), costs_);
}

PassOutcome LoadSimulator::outcome(const ReplayLoad& load, const Plan& plan, Pass pass) {
  const Simulation& simulation = simulate(load, plan, pass);
  find_critical_path_into(path_, simulation);
  PassOutcome outcome{
      .duration_us = simulation.total_us, .error_us = path_.error_us, .origin_us = path_.origin_us};
  for (int kind = 0; kind < kNumOperationKinds; ++kind) {
    const auto operation = static_cast<OperationKind>(kind);
    outcome.class_us[static_cast<std::size_t>(class_of(operation))] += path_.of(operation);
  }
  return outcome;
}

}  // namespace flex
