#pragma once

#include <algorithm>
#include <cstdint>

#include "costmodel/cluster.h"
#include "costmodel/cost_model.h"
#include "costmodel/pass_sequence.h"
#include "costmodel/simulator.h"

/// Private to the tuner.
namespace flex {

/// Simulates single passes of one layer. Its memory is used again.
///
/// Routing is even but for what the capacity says: in dropless mode one expert of a rank has as many choices
/// from each source rank as the capacity, and the others share the rest, so that counted experts compute less
/// than padded ones.
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
    sequence_.build(stack_, {}, usual_count(stack_.workload));
  }
  /// What is prepared takes so long with `costs`.
  [[nodiscard]] double duration_us(const CostModel& costs) {
    return simulator_.run(sequence_.passes(), costs).total_us;
  }

 private:
  static std::int64_t usual_count(const Workload& w) {
    if (!w.dropless || w.num_experts == 1) return 0;
    return std::max<std::int64_t>(0, w.num_tokens * w.top_k - w.capacity) / (w.num_experts - 1);
  }

  LayerStack stack_;
  PassSequence sequence_;
  Simulator simulator_;
};

}  // namespace flex
