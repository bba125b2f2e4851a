#include "bench/online_run.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "base/philox.h"
#include "costmodel/parameter_scaling.h"
#include "tuner/online_policy.h"
#include "tuner/trial.h"

namespace flex::bench {
namespace {

/// Loads, noise and changes of one run.
struct Scenario {
  std::vector<std::int64_t> capacities;
  std::vector<double> noise;  // forward and backward of each iteration, factors
  [[nodiscard]] bool has_changed(std::size_t iteration) const { return iteration >= capacities.size() / 2; }
};

Scenario draw_scenario(const OnlineSetting& setting, const OnlineRunSettings& settings, std::uint64_t seed) {
  Scenario scenario{.capacities = draw_capacities(setting.workload.capacity, settings.num_iterations, seed)};
  PhiloxStream random(seed, 1);
  for (int i = 0; i < 2 * settings.num_iterations; ++i) {
    scenario.noise.push_back(std::exp(settings.noise * random.normal()));
  }
  return scenario;
}

CostModel draw_model(const OnlineSetting& setting, const CostModel& truth, double error, std::uint64_t seed) {
  PhiloxStream random(seed, 2);
  std::vector<double> factors(num_scalable(truth.parameters()));
  for (double& factor : factors) factor = std::exp(error * random.normal());
  return {setting.cluster, scaled(truth.parameters(), factors)};
}

PolicyOutcome run_policy(PlanPolicy& policy, OnlineMachine& machine, const Scenario& scenario) {
  PolicyOutcome outcome;
  PlanPair last;
  for (std::size_t i = 0; i < scenario.capacities.size(); ++i) {
    const std::int64_t capacity = scenario.capacities[i];
    const LayerLoad load = machine.load(capacity);
    const PlanPair plans = policy.choose(0, load);
    const bool has_changed = scenario.has_changed(i);
    const double forward_us = machine.duration_us(capacity, has_changed, plans.forward, Pass::kForward);
    const double backward_us = machine.duration_us(capacity, has_changed, plans.backward, Pass::kBackward);
    outcome.total_us += forward_us + backward_us;
    policy.observe(0, load, plans,
                   {.forward_ns = std::llround(1e3 * forward_us * scenario.noise[2 * i]),
                    .backward_ns = std::llround(1e3 * backward_us * scenario.noise[2 * i + 1])});
    if (i > 0) {
      outcome.statistics.switches += plans != last ? 1 : 0;
      outcome.statistics.bucket_changes +=
          capacity_bucket(capacity) != capacity_bucket(scenario.capacities[i - 1]) ? 1 : 0;
    }
    last = plans;
  }
  return outcome;
}

/// Sums of the static plans: the default where a plan is illegal.
void sum_static(OnlineRun& run, OnlineMachine& machine, const Scenario& scenario) {
  std::map<std::pair<std::int64_t, bool>, double> uses;
  for (std::size_t i = 0; i < scenario.capacities.size(); ++i) {
    uses[{scenario.capacities[i], scenario.has_changed(i)}] += 1;
  }
  std::map<Plan, std::pair<double, double>> totals;  // of the passes apart: pairs share r and kernel only
  std::vector<Plan> plans;
  for (const auto& [key, count] : uses) {
    run.oracle_us += count * machine.table(key.first, key.second).best_us;
    std::vector<Plan> both;
    std::ranges::set_union(plans, machine.table(key.first, key.second).plans, std::back_inserter(both));
    plans = std::move(both);
  }
  for (const auto& [key, count] : uses) {
    const auto& [capacity, changed] = key;
    const std::vector<Plan>& legal = machine.table(capacity, changed).plans;
    for (const Plan& plan : plans) {
      const Plan& runs = std::ranges::binary_search(legal, plan) ? plan : kDefaultPlan;
      totals[plan].first += count * machine.duration_us(capacity, changed, runs, Pass::kForward);
      totals[plan].second += count * machine.duration_us(capacity, changed, runs, Pass::kBackward);
    }
  }
  run.best_static_us = std::numeric_limits<double>::infinity();
  for (const auto& [forward, one] : totals) {
    for (const auto& [backward, other] : totals) {
      const double us = one.first + other.second;
      if (!can_pair(forward, backward) || us >= run.best_static_us) continue;
      run.best_static = {forward, backward};
      run.best_static_us = us;
    }
  }
  run.default_us = totals.at(kDefaultPlan).first + totals.at(kDefaultPlan).second;
}

}  // namespace

OnlineRun run_policies(const OnlineSetting& setting, OnlineMachine& machine,
                       const OnlineRunSettings& settings, std::uint64_t seed) {
  const Scenario scenario = draw_scenario(setting, settings, seed);
  const CostModel model = draw_model(setting, machine.before(), settings.model_error, seed);
  OnlineRun run;
  sum_static(run, machine, scenario);
  const PolicyContext context{.cluster = setting.cluster, .costs = &model, .online = settings.online};
  run.dictionary = run_policy(*make_policy({.kind = PolicyKind::kDictionary}, context), machine, scenario);
  run.model = run_policy(*make_policy({.kind = PolicyKind::kModel}, context), machine, scenario);
  OnlinePolicy online(context);
  run.online = run_policy(online, machine, scenario);
  run.online.statistics = online.statistics();
  return run;
}

}  // namespace flex::bench
