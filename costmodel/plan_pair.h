#pragma once

#include <compare>
#include <string>
#include <string_view>

#include "costmodel/plan.h"
#include "costmodel/workload.h"

namespace flex {

/// How one iteration of one layer runs. A plain value.
struct PlanPair {
  Plan forward;
  Plan backward;

  [[nodiscard]] const Plan& of(Pass pass) const { return pass == Pass::kForward ? forward : backward; }
  friend constexpr auto operator<=>(const PlanPair&, const PlanPair&) = default;
};

/// `r2 d4 2dh / r2 d1 linear`, or the plan alone where both are the same.
[[nodiscard]] std::string to_string(const PlanPair& plans);
/// Inverse of to_string(). @throws InputError for what is neither one plan nor two, or two that cannot pair.
[[nodiscard]] PlanPair parse_plan_pair(std::string_view text);

/// True if one may be the forward plan and the other the backward plan of a layer: they share r, and the
/// expert kernel, since a counted pass leaves rows unwritten that a padded one would read.
[[nodiscard]] constexpr bool can_pair(const Plan& a, const Plan& b) {
  return a.parallel_degree == b.parallel_degree && a.expert_kernel == b.expert_kernel;
}

/// @throws InputError that names the backward plan, for plans that can_pair() denies.
void check_pair(const PlanPair& plans);

}  // namespace flex
