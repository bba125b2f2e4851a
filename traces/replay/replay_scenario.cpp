#include "traces/replay/replay_scenario.h"

#include <algorithm>
#include <cmath>

#include "base/philox.h"
#include "base/require.h"
#include "base/units.h"
#include "costmodel/layer_memory.h"
#include "costmodel/parameter_scaling.h"
#include "traces/replay/hindsight.h"

namespace flex {
namespace {

/// The parameters that policies believe in.
CostParameters believed(const CostParameters& truth, double error, std::uint64_t seed) {
  if (error == 0) return truth;
  constexpr std::uint64_t kModelStream = 2;
  PhiloxStream random(seed, kModelStream);
  std::vector<double> factors(num_scalable(truth));
  for (double& factor : factors) factor = std::exp(error * random.normal());
  return scaled(truth, factors);
}

}  // namespace

std::vector<ReplayPolicy> with_default(const std::vector<ReplayPolicy>& policies) {
  std::vector<ReplayPolicy> result = {kDefaultPolicy};
  for (const ReplayPolicy& policy : policies) {
    if (!std::ranges::count(result, policy)) result.push_back(policy);
  }
  return result;
}

PolicyContext replay_context(const Cluster& cluster, const CostModel& model, Passes passes,
                             const CacheSnapshot* snapshot, const ReplayOptions& options) {
  PolicyContext context{.cluster = cluster,
                        .costs = &model,
                        .snapshot = snapshot,
                        .environment = snapshot != nullptr ? snapshot->environment() : 0,
                        .passes = passes,
                        .online = options.online};
  if (options.memory_limit_bytes) {
    const LayerMemorySettings settings{.training = passes != Passes::kForward};
    context.may_run = [settings, limit = *options.memory_limit_bytes](const LayerLoad& load,
                                                                      const Plan& plan) {
      return plan == kDefaultPlan || layer_memory(load.workload, plan, plan, settings).total_bytes() <= limit;
    };
  }
  return context;
}

RunningScenario::RunningScenario(const IterationTrace& trace, const Scenario& scenario,
                                 const ReplayOptions& options)
    : options_(options), scenario_(scenario) {
  machine_ = machine_of(scenario, trace.header.world);
  const CostParameters& parameters = machine_.calibration.parameters;
  truth_.emplace(machine_.cluster, parameters);
  model_.emplace(machine_.cluster, believed(parameters, options.model_error, options.seed));
  if (options.snapshot_of) snapshot_ = options.snapshot_of(machine_.cluster);
  trace_ = scenario_trace(trace, scenario, machine_.cluster, options.seed);
  context_ =
      replay_context(machine_.cluster, *model_, trace_.passes, snapshot_ ? &*snapshot_ : nullptr, options);
  outcomes_ = std::make_unique<OutcomeTable>(trace_.loads);
  durations_ = DurationTable(trace_.loads.size());
  policies_ = with_default(options.policies);
  results_.resize(policies_.size());
}

void RunningScenario::time_plans(std::size_t load, LoadSimulator& simulator) {
  const ReplayLoad& one = trace_.loads[load];
  durations_.fill(static_cast<std::int32_t>(load), one, plans_at(context_, one.load), trace_.passes,
                  simulator);
}

void RunningScenario::find_best_static() {
  const bool is_asked_for =
      std::ranges::count(policies_, ReplayPolicy::Kind::kBestStatic, &ReplayPolicy::kind) > 0;
  if (is_asked_for) best_static_ = best_static_pair(trace_, durations_, context_);
}

std::unique_ptr<PlanPolicy> RunningScenario::make(const ReplayPolicy& policy,
                                                  const PolicyContext& context) const {
  switch (policy.kind) {
    case ReplayPolicy::Kind::kRecorded:
      return std::make_unique<RecordedPolicy>(trace_.iterations, machine_.cluster);
    case ReplayPolicy::Kind::kBestStatic:
      return make_policy({.kind = PolicyKind::kStatic, .plans = best_static_.value()}, context);
    case ReplayPolicy::Kind::kPolicy:
      break;
  }
  return make_policy(policy.policy, context);
}

void RunningScenario::run_policy(std::size_t index, LoadSimulator& simulator,
                                 const std::function<void()>& iteration_done) {
  const ReplayPolicy& policy = policies_[index];
  PolicyContext context = context_;
  // The truth depends on the counts, which a LayerLoad does not have: the oracle is told the iteration.
  const ReplayIteration* now = nullptr;
  context.truth_us = [&](const LayerLoad&, const Plan& plan, Pass pass) {
    const bool runs = pass == Pass::kForward || now->has_backward;
    return runs ? durations_.duration_us(now->load, plan, pass) : 0;
  };
  const std::unique_ptr<PlanPolicy> running = make(policy, context);
  const std::vector<ReplayedIteration> replayed =
      replay_policy(trace_, *running, *outcomes_, simulator,
                    {.sigma = options_.noise.sigma, .seed = options_.seed}, [&](std::size_t iteration) {
                      now = &trace_.iterations[iteration];
                      iteration_done();
                    });
  const auto base_bytes =
      static_cast<std::int64_t>(machine_.calibration.parameters.base_memory_GiB * kBytesPerGiB);
  results_[index] = policy_result(policy, trace_, replayed, machine_.cluster, base_bytes);
  if (policy.kind == ReplayPolicy::Kind::kBestStatic) results_[index].resolved = best_static_;
}

ScenarioResult RunningScenario::finish() && {
  fill_in_comparisons(results_, trace_);
  LoadSimulator timed = simulator();
  std::optional<Timeline> timeline = make_timeline(options_.timeline, trace_, results_, timed);
  ScenarioResult result{.scenario = std::move(scenario_),
                        .machine = std::move(machine_),
                        .policies = std::move(results_),
                        .timeline = std::move(timeline)};
  for (const ReplayIteration& iteration : trace_.iterations) {
    result.num_choices += iteration.num_choices;
    result.num_dropped += iteration.num_dropped;
  }
  result.trace = std::move(trace_);
  return result;
}

}  // namespace flex
