#include "tuner/policy_context.h"

#include "costmodel/plan_space.h"

namespace flex {

bool PolicyContext::allows(const LayerLoad& load, const Plan& plan) const {
  return is_legal(plan, load.workload, cluster) && (!may_run || may_run(load, plan));
}

bool PolicyContext::allows(const LayerLoad& load, const PlanPair& plans) const {
  return allows(load, plans.forward) && (plans.forward == plans.backward || allows(load, plans.backward));
}

}  // namespace flex
