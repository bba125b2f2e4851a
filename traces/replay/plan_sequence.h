#pragma once

#include <cstdint>
#include <optional>

#include "traces/replay/iteration_trace.h"
#include "tuner/plan_policy.h"

namespace flex {

/// How the plans of a recorded run compare with those that a policy chooses when it is told what the run
/// measured.
struct PlanSequenceCheck {
  struct Difference {
    std::int64_t step = 0;
    std::int32_t layer = 0;
    PlanPair recorded;
    PlanPair chosen;

    friend bool operator==(const Difference&, const Difference&) = default;
  };
  std::int64_t num_compared = 0;  ///< iterations whose plans were recorded
  std::int64_t num_equal = 0;
  std::optional<Difference> first;

  [[nodiscard]] bool is_equal() const { return num_equal == num_compared; }
};

/// Makes the calls that the run's AdaptiveLayers made: with the recorded loads, plans and durations, in the
/// same order. A policy of the same kind, settings, model and cache chooses the same plans again. Where the
/// trace has no plans or no durations, the policy is asked but not told.
/// @throws what the policy throws.
[[nodiscard]] PlanSequenceCheck check_plan_sequence(const IterationTrace& trace, PlanPolicy& policy);

}  // namespace flex
