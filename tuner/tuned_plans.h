#pragma once

#include <functional>

#include "costmodel/cost_model.h"
#include "costmodel/layer_load.h"
#include "costmodel/plan_pair.h"
#include "tuner/cache_snapshot.h"

namespace flex {

/// Plans of a layer out of the cache, and how they were found.
struct TunedPlans {
  PlanPair plans;
  CacheSnapshot::Hit forward_hit = CacheSnapshot::Hit::kDefault;
  CacheSnapshot::Hit backward_hit = CacheSnapshot::Hit::kDefault;
  bool is_complete = false;  ///< exact hits of searches that came to their end: there is nothing left to try
};

/// Looks up the forward plan, and then the backward plan for its r. Allocates nothing.
/// @param layer layer_id() of the load's layer
/// @param beats_default `(const Plan&, Pass) -> bool`: a model's word for a neighbour's plan at this load,
///        see CacheSnapshot::lookup()
/// @param may_run `(const Plan&, Pass) -> bool`: legal at this load, and within what memory allows; another
/// plan
///        gives way to the default of its case
template <class BeatsDefault, class MayRun>
[[nodiscard]] TunedPlans tuned_plans(const CacheSnapshot& snapshot, std::uint64_t layer,
                                     const LayerLoad& load, BeatsDefault&& beats_default, MayRun&& may_run) {
  TunedPlans result;
  Workload workload = load.workload;
  workload.pass = Pass::kForward;
  const auto look_up = [&](Pass pass, std::int32_t given_degree, CacheSnapshot::Hit& hit) {
    workload.pass = pass;
    const TuningCase one = case_of(workload, load.max_over_mean, given_degree);
    CacheSnapshot::Answer answer =
        snapshot.lookup(layer, one, [&](const Plan& plan) { return beats_default(plan, pass); });
    if (!may_run(answer.plan, pass)) answer = {default_plan(one)};
    hit = answer.hit;
    return answer;
  };
  const CacheSnapshot::Answer forward = look_up(Pass::kForward, kFreeDegree, result.forward_hit);
  CacheSnapshot::Answer backward =
      look_up(Pass::kBackward, forward.plan.parallel_degree, result.backward_hit);
  if (!can_pair(forward.plan, backward.plan)) {  // a decision for the other expert kernel
    backward = {
        {.parallel_degree = forward.plan.parallel_degree, .expert_kernel = forward.plan.expert_kernel}};
    result.backward_hit = CacheSnapshot::Hit::kDefault;
  }
  result.plans = {forward.plan, backward.plan};
  result.is_complete = forward.is_complete && backward.is_complete;
  return result;
}

/// The same with a cost model's word for neighbours: for those who look up now and then.
/// @param may_run beside what is illegal at this load anyway; null: all may
/// @throws InputError as the model.
[[nodiscard]] TunedPlans tuned_plans(const CacheSnapshot& snapshot, const LayerLoad& load,
                                     const Cluster& cluster, const CostModel& costs,
                                     const std::function<bool(const Plan&, Pass)>& may_run = {});

}  // namespace flex
