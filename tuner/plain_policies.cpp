#include "tuner/plain_policies.h"

#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/philox.h"
#include "base/require.h"
#include "costmodel/plan_space.h"
#include "tuner/fastest_pair.h"
#include "tuner/pass_simulator.h"
#include "tuner/trial.h"

namespace flex {
namespace {

constexpr PlanPair kDefaultPlans{kDefaultPlan, kDefaultPlan};

std::uint64_t hash_of(const PlanPair& plans) {
  return splitmix64(stable_hash(plans.forward)) ^ stable_hash(plans.backward);
}

}  // namespace

LayerBucket::LayerBucket(std::int64_t of_layer, const LayerLoad& load)
    : layer(of_layer), bucket(capacity_bucket(load.workload.capacity)) {}

std::uint64_t LayerBucket::hash() const {
  return splitmix64(splitmix64(static_cast<std::uint64_t>(layer)) ^ static_cast<std::uint64_t>(bucket));
}

PlanPair fastest_allowed(const PolicyContext& context, const LayerLoad& load,
                         const std::function<double(const Plan&, Pass)>& duration_us) {
  std::vector<TimedPlan> timed;
  for (const Plan& plan : PlanSpace(load.workload, context.cluster).plans()) {
    if (!context.allows(load, plan)) continue;
    for (const Pass pass : passes_of(context.passes)) timed.push_back({plan, pass, duration_us(plan, pass)});
  }
  const std::optional<TimedPlanPair> best = fastest_pair(timed, context.passes);
  return best ? static_cast<PlanPair>(*best) : kDefaultPlans;
}

StaticPolicy::StaticPolicy(const PlanPair& plans, PolicyContext context)
    : plans_(plans), context_(std::move(context)) {
  check_pair(plans);
}

PlanPair StaticPolicy::choose(std::int64_t /*layer*/, const LayerLoad& load) {
  if (context_.allows(load, plans_)) return plans_;
  if (!has_warned_) warn_once(load);
  return kDefaultPlans;
}

void StaticPolicy::warn_once(const LayerLoad& load) {
  has_warned_ = true;
  if (!context_.speaks) return;
  for (const Plan& plan : {plans_.forward, plans_.backward}) {
    if (context_.allows(load, plan)) continue;
    const std::optional<std::string> reason = why_illegal(plan, load.workload, context_.cluster);
    log_warning("plan '{}' cannot run at capacity {}: {}; '{}' runs wherever that is so", to_string(plan),
                load.workload.capacity, reason.value_or("it is kept from running, as by a memory limit"),
                to_string(kDefaultPlan));
    return;
  }
}

std::uint64_t StaticPolicy::state_hash() const { return hash_of(plans_); }

ModelPolicy::ModelPolicy(PolicyContext context) : context_(std::move(context)) {
  require(context_.costs != nullptr, "the model policy needs a cost model");
}

PlanPair ModelPolicy::choose(std::int64_t layer, const LayerLoad& load) {
  const LayerBucket key(layer, load);
  if (const auto known = plans_.find(key); known != plans_.end() && context_.allows(load, known->second)) {
    return known->second;
  }
  PassSimulator simulator(load.workload, context_.cluster);
  const PlanPair plans = fastest_allowed(context_, load, [&](const Plan& plan, Pass pass) {
    simulator.prepare(plan, pass);
    return simulator.duration_us(*context_.costs);
  });
  // Of a bucket whose first plans cannot run at a smaller load, these are the answer from now on.
  plans_.insert_or_assign(key, plans);
  hash_ = splitmix64(hash_ ^ key.hash() ^ hash_of(plans));
  return plans;
}

OraclePolicy::OraclePolicy(PolicyContext context) : context_(std::move(context)) {
  require(context_.truth_us != nullptr, "the oracle needs the truth: it runs on simulated machines only");
}

PlanPair OraclePolicy::choose(std::int64_t /*layer*/, const LayerLoad& load) {
  return fastest_allowed(context_, load,
                         [&](const Plan& plan, Pass pass) { return context_.truth_us(load, plan, pass); });
}

}  // namespace flex
