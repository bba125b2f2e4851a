#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "costmodel/cost_model.h"
#include "costmodel/critical_path.h"
#include "costmodel/prediction.h"
#include "traces/replay/scenario_trace.h"

namespace flex {

/// What one pass takes with one plan at one load.
struct PassOutcome {
  double duration_us = 0;
  double error_us = 0;                                  ///< band, see CriticalPath::error_us
  std::array<double, kNumOperationClasses> class_us{};  ///< of the critical path: they add up to the duration
  std::array<double, kNumCostOrigins> origin_us{};      ///< so do these

  friend bool operator==(const PassOutcome&, const PassOutcome&) = default;
};

/// Simulates single passes of one layer with the counts of a load: the forward pass from the tokens on (route
/// included), or the backward pass. The same as Simulator on PassSequence's schedules with the load's (W, E)
/// counts; where those change nothing, they are left out, so that one rank stands for all.
///
/// Holds memory that is used again. Not for several threads at once.
class LoadSimulator {
 public:
  /// Both must live as long. `costs`: of the cluster.
  LoadSimulator(const Cluster& cluster, const CostModel& costs) : cluster_(cluster), costs_(costs) {}

  /// @throws InputError for a plan that cannot run.
  [[nodiscard]] double duration_us(const ReplayLoad& load, const Plan& plan, Pass pass) {
    return simulate(load, plan, pass).total_us;
  }
  [[nodiscard]] PassOutcome outcome(const ReplayLoad& load, const Plan& plan, Pass pass);
  /// The timeline. Valid until the next call.
  [[nodiscard]] const Simulation& simulate(const ReplayLoad& load, const Plan& plan, Pass pass);

 private:
  const Cluster& cluster_;
  const CostModel& costs_;
  PassSequence sequence_;
  Simulator simulator_;
  CriticalPath path_;
  const ReplayLoad* dense_of_ = nullptr;  // whose counts are in dense_
  std::vector<std::int64_t> dense_;
};

}  // namespace flex
