#pragma once

#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "costmodel/pass_sequence.h"
#include "costmodel/plan_pair.h"

namespace flex {

/// `kForward`, `kBackward` or both, in this order.
[[nodiscard]] std::span<const Pass> passes_of(Passes passes);

/// The plans of a layer, and what its passes take together. Where only forward passes run, `backward` is the
/// forward plan, and the other way round.
struct TimedPlanPair : PlanPair {
  double total_us = std::numeric_limits<double>::infinity();

  friend bool operator==(const TimedPlanPair&, const TimedPlanPair&) = default;
};

/// What one pass takes with one plan.
struct TimedPlan {
  Plan plan;
  Pass pass = Pass::kForward;
  double duration_us = 0;
};

/// The fastest pair for each r and expert kernel of which all `passes` have a finite duration, in ascending
/// order of plans. Of equally fast plans the smaller one is taken.
[[nodiscard]] std::vector<TimedPlanPair> fastest_pairs(std::span<const TimedPlan> timed, Passes passes);

/// The fastest of them, and of equally fast ones the one with the default plan's r and kernel, then the
/// first; nothing if there is none.
[[nodiscard]] std::optional<TimedPlanPair> fastest_pair(std::span<const TimedPlan> timed, Passes passes);

/// What a pair takes by these durations; infinite if one of them is not there.
[[nodiscard]] double total_us(std::span<const TimedPlan> timed, const PlanPair& pair, Passes passes);

/// The pair that is fastest over several loads together, out of plans that were timed at each of them: the
/// best static choice in hindsight. total_us is its sum. Nothing if no pair was.
[[nodiscard]] std::optional<TimedPlanPair> fastest_common_pair(std::span<const std::vector<TimedPlan>> loads,
                                                               Passes passes);

}  // namespace flex
