#include "tuner/tuned_plans.h"

#include "costmodel/plan_space.h"
#include "tuner/pass_simulator.h"

namespace flex {

TunedPlans tuned_plans(const CacheSnapshot& snapshot, const LayerLoad& load, const Cluster& cluster,
                       const CostModel& costs, const std::function<bool(const Plan&, Pass)>& may_run) {
  const auto runs = [&](const Plan& plan, Pass pass) {
    return is_legal(plan, load.workload, cluster) && (!may_run || may_run(plan, pass));
  };
  PassSimulator simulator(load.workload, cluster);
  const auto predicted_us = [&](const Plan& plan, Pass pass) {
    simulator.prepare(plan, pass);
    return simulator.duration_us(costs);
  };
  const auto beats_default = [&](const Plan& plan, Pass pass) {
    const Plan baseline{.parallel_degree =
                            pass == Pass::kForward ? kDefaultPlan.parallel_degree : plan.parallel_degree};
    return runs(plan, pass) && predicted_us(plan, pass) < predicted_us(baseline, pass);
  };
  return tuned_plans(snapshot, layer_id(layer_of(load.workload)), load, beats_default, runs);
}

}  // namespace flex
