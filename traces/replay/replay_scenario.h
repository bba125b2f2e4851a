#pragma once

#include <memory>
#include <optional>

#include "traces/replay/replay.h"

/// Private to replay().
namespace flex {

/// One scenario under way: prepared once, then filled by several threads.
class RunningScenario {
 public:
  /// @throws InputError naming the scenario.
  RunningScenario(const IterationTrace& trace, const Scenario& scenario, const ReplayOptions& options);

  [[nodiscard]] std::size_t num_loads() const { return trace_.loads.size(); }
  [[nodiscard]] std::size_t num_policies() const { return policies_.size(); }
  [[nodiscard]] std::size_t num_iterations() const { return trace_.iterations.size(); }
  [[nodiscard]] LoadSimulator simulator() const { return {machine_.cluster, *truth_}; }

  /// Times all plans of a load. Different loads at once.
  void time_plans(std::size_t load, LoadSimulator& simulator);
  /// After all loads are timed, if hindsight is needed.
  void find_best_static();
  /// Different policies at once.
  void run_policy(std::size_t index, LoadSimulator& simulator, const std::function<void()>& iteration_done);
  /// After all policies ran.
  [[nodiscard]] ScenarioResult finish() &&;

 private:
  [[nodiscard]] std::unique_ptr<PlanPolicy> make(const ReplayPolicy& policy,
                                                 const PolicyContext& context) const;

  const ReplayOptions& options_;
  Scenario scenario_;
  ScenarioMachine machine_;
  std::optional<CostModel> truth_;
  std::optional<CostModel> model_;  // that policies have
  std::optional<CacheSnapshot> snapshot_;
  ScenarioTrace trace_;
  PolicyContext context_;
  std::unique_ptr<OutcomeTable> outcomes_;
  DurationTable durations_{0};
  std::optional<PlanPair> best_static_;
  std::vector<ReplayPolicy> policies_;
  std::vector<PolicyResult> results_;
};

/// The policies that run: the default plan's first.
[[nodiscard]] std::vector<ReplayPolicy> with_default(const std::vector<ReplayPolicy>& policies);

}  // namespace flex
