#pragma once

#include "costmodel/cluster.h"
#include "costmodel/cost_model.h"
#include "costmodel/pass_sequence.h"
#include "costmodel/simulator.h"

/// Private to the tuner.
namespace flex {

/// Simulates single passes of one layer, with even routing. Its memory is used again.
class PassSimulator {
 public:
  /// `workload.pass` does not matter.
  PassSimulator(const Workload& workload, const Cluster& cluster)
      : stack_{.workload = workload, .cluster = cluster} {}

  [[nodiscard]] const Workload& workload() const { return stack_.workload; }
  [[nodiscard]] const Cluster& cluster() const { return stack_.cluster; }

  /// The schedules of one pass with `plan`. @throws InputError for a plan that cannot run.
  void prepare(const Plan& plan, Pass pass) {
    stack_.forward = stack_.backward = plan;
    stack_.passes = pass == Pass::kForward ? Passes::kForward : Passes::kBackward;
    sequence_.build(stack_);
  }
  /// What is prepared takes so long with `costs`.
  [[nodiscard]] double duration_us(const CostModel& costs) {
    return simulator_.run(sequence_.passes(), costs).total_us;
  }

 private:
  LayerStack stack_;
  PassSequence sequence_;
  Simulator simulator_;
};

}  // namespace flex
