#include "costmodel/plan_pair.h"

#include "base/require.h"

namespace flex {

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
