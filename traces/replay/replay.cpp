#include "traces/replay/replay.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "base/require.h"
#include "traces/replay/parallel_tasks.h"
#include "traces/replay/replay_scenario.h"

namespace flex {
namespace {

/// Steps of work that are done, told to someone from time to time.
class ReplayProgress {
 public:
  ReplayProgress(std::int64_t total, const std::function<void(std::int64_t, std::int64_t)>& tell)
      : total_(total), tell_(tell) {}

  void add(std::int64_t steps = 1) {
    const std::lock_guard lock(mutex_);
    done_ += steps;
    if (tell_) tell_(done_, total_);
  }

 private:
  std::mutex mutex_;
  std::int64_t done_ = 0;
  std::int64_t total_;
  const std::function<void(std::int64_t, std::int64_t)>& tell_;
};

/// A piece of work: a part of one scenario.
struct Task {
  std::size_t scenario = 0;
  std::size_t part = 0;
};

std::vector<std::unique_ptr<RunningScenario>> prepare(const IterationTrace& trace,
                                                      std::span<const Scenario> scenarios,
                                                      const ReplayOptions& options) {
  std::vector<std::unique_ptr<RunningScenario>> running(scenarios.size());
  run_tasks(scenarios.size(), options.num_workers, [&](std::size_t index, int) {
    try {
      running[index] = std::make_unique<RunningScenario>(trace, scenarios[index], options);
    } catch (const InputError& error) {
      if (scenarios.size() == 1) throw;
      fail("scenario '{}': {}", scenarios[index].name, error.what());
    }
  });
  return running;
}

/// Each worker has a simulator of the scenario that it works on.
class WorkerSimulators {
 public:
  explicit WorkerSimulators(int num_workers) : simulators_(static_cast<std::size_t>(num_workers)) {}

  LoadSimulator& of(int worker, std::size_t scenario, const RunningScenario& running) {
    auto& [last, simulator] = simulators_[static_cast<std::size_t>(worker)];
    if (!simulator || last != scenario) {
      simulator = std::make_unique<LoadSimulator>(running.simulator());
      last = scenario;
    }
    return *simulator;
  }

 private:
  std::vector<std::pair<std::size_t, std::unique_ptr<LoadSimulator>>> simulators_;
};

}  // namespace

std::vector<ScenarioResult> replay(const IterationTrace& trace, std::span<const Scenario> scenarios,
                                   const ReplayOptions& options) {
  require(options.num_workers >= 1, "{} workers; there is at least 1", options.num_workers);
  std::vector<std::unique_ptr<RunningScenario>> running = prepare(trace, scenarios, options);
  const bool in_hindsight = std::ranges::any_of(options.policies, &ReplayPolicy::needs_hindsight);

  std::vector<Task> loads;
  std::vector<Task> policies;
  std::int64_t num_iterations = 0;
  for (std::size_t s = 0; s < running.size(); ++s) {
    for (std::size_t i = 0; in_hindsight && i < running[s]->num_loads(); ++i) loads.push_back({s, i});
    for (std::size_t i = 0; i < running[s]->num_policies(); ++i) policies.push_back({s, i});
    num_iterations += static_cast<std::int64_t>(running[s]->num_policies() * running[s]->num_iterations());
  }
  ReplayProgress progress(static_cast<std::int64_t>(loads.size()) + num_iterations, options.progress);
  WorkerSimulators simulators(options.num_workers);

  run_tasks(loads.size(), options.num_workers, [&](std::size_t index, int worker) {
    const auto [s, load] = loads[index];
    running[s]->time_plans(load, simulators.of(worker, s, *running[s]));
    progress.add();
  });
  run_tasks(in_hindsight ? running.size() : 0, options.num_workers,
            [&](std::size_t index, int) { running[index]->find_best_static(); });
  run_tasks(policies.size(), options.num_workers, [&](std::size_t index, int worker) {
    const auto [s, policy] = policies[index];
    running[s]->run_policy(policy, simulators.of(worker, s, *running[s]), [&] { progress.add(); });
  });

  std::vector<ScenarioResult> results;
  for (std::unique_ptr<RunningScenario>& one : running) results.push_back(std::move(*one).finish());
  return results;
}

}  // namespace flex
