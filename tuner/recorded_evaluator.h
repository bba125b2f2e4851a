#pragma once

#include <map>
#include <span>
#include <utility>
#include <vector>

#include "tuner/recorded_sweep.h"

namespace flex {

/// Replays a stored sweep, so that searches can be compared without what it was measured on. A plan that the
/// sweep does not have cannot run.
class RecordedEvaluator final : public Evaluator {
 public:
  /// Takes what `sweep` has of `workload`; samples of one plan and pass are put together.
  /// @throws InputError if it has nothing.
  RecordedEvaluator(std::span<const RecordedPass> sweep, const Workload& workload);

  /// What the samples of all evaluations so far took when they were measured.
  [[nodiscard]] double elapsed_s() const override { return elapsed_s_; }

 private:
  [[nodiscard]] Evaluation run(const Plan& plan, Pass pass) override;

  std::map<std::pair<Plan, Pass>, RecordedPass> passes_;
  double elapsed_s_ = 0;
};

}  // namespace flex
