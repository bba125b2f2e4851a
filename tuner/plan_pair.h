#pragma once

#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "costmodel/pass_sequence.h"
#include "costmodel/plan.h"

namespace flex {

/// `kForward`, `kBackward` or both, in this order.
[[nodiscard]] std::span<const Pass> passes_of(Passes passes);

/// True if one may be the forward plan and the other the backward plan of a layer: they share r, and the
/// expert kernel, since a counted backward pass needs a counted forward pass.
[[nodiscard]] constexpr bool can_pair(const Plan& a, const Plan& b) {
  return a.parallel_degree == b.parallel_degree && a.expert_kernel == b.expert_kernel;
}

/// The plans of a layer and what its passes take together.
struct PlanPair {
  Plan forward;
  Plan backward;  ///< the forward plan where only forward passes run, and the other way round
  double total_us = std::numeric_limits<double>::infinity();

  [[nodiscard]] const Plan& of(Pass pass) const { return pass == Pass::kForward ? forward : backward; }
  friend bool operator==(const PlanPair&, const PlanPair&) = default;
};

/// What one pass takes with one plan.
struct TimedPlan {
  Plan plan;
  Pass pass = Pass::kForward;
  double duration_us = 0;
};

/// The fastest pair for each r and expert kernel of which all `passes` have a finite duration, in ascending
/// order of plans. Of equally fast plans the smaller one is taken.
[[nodiscard]] std::vector<PlanPair> fastest_pairs(std::span<const TimedPlan> timed, Passes passes);

/// The fastest of them, and of equally fast ones the one with the default plan's r and kernel, then the
/// first; nothing if there is none.
[[nodiscard]] std::optional<PlanPair> fastest_pair(std::span<const TimedPlan> timed, Passes passes);

}  // namespace flex
