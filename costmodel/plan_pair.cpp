#include "costmodel/plan_pair.h"

#include "base/require.h"

namespace flex {

std::string to_string(const PlanPair& plans) {
  if (plans.forward == plans.backward) return to_string(plans.forward);
  return to_string(plans.forward) + " / " + to_string(plans.backward);
}

PlanPair parse_plan_pair(std::string_view text) {
  const std::size_t slash = text.find('/');
  const Plan forward = parse_plan(text.substr(0, slash));
  if (slash == std::string_view::npos) return {forward, forward};
  const PlanPair plans{forward, parse_plan(text.substr(slash + 1))};
  check_pair(plans);
  return plans;
}

void check_pair(const PlanPair& plans) {
  const auto& [forward, backward] = plans;
  require(forward.parallel_degree == backward.parallel_degree,
          "the backward plan '{}' must use the forward plan's r{}", to_string(backward),
          forward.parallel_degree);
  require(forward.expert_kernel == backward.expert_kernel,
          "the backward plan '{}' must be {}, as the forward plan is", to_string(backward),
          name(forward.expert_kernel));
}

}  // namespace flex
