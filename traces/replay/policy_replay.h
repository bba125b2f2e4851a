#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "traces/replay/outcome_table.h"
#include "traces/replay/scenario_trace.h"
#include "tuner/plan_policy.h"

namespace flex {

/// What policies see of durations: themselves, times lognormal factors whose median is 1.
struct ObservationNoise {
  double sigma = 0;
  std::uint64_t seed = 0;

  /// Of one pass of one iteration: equal for all policies.
  [[nodiscard]] double factor(std::size_t iteration, Pass pass) const;
};

/// One iteration under a policy.
struct ReplayedIteration {
  PlanPair plans;
  PassOutcome forward;
  PassOutcome backward;  ///< zeros without a backward pass

  [[nodiscard]] double total_us() const { return forward.duration_us + backward.duration_us; }
};

/// Calls a policy as AdaptiveLayer does: choose() for each iteration in the order of the trace; before it,
/// observe() of the same layer's iteration before. So what a layer's pass took is known to the policy when
/// the layer runs again, and not before. The last iteration of each layer is never observed.
class PolicyCalls {
 public:
  explicit PolicyCalls(PlanPolicy& policy, std::size_t num_layers) : policy_(policy), pending_(num_layers) {}

  [[nodiscard]] PlanPair choose(std::int32_t layer, const LayerLoad& load);
  /// What `layer` ran, and how long it took. @param load must live until it runs again
  void ran(std::int32_t layer, const LayerLoad& load, const PlanPair& plans, const PassDurations& durations);

 private:
  struct Pending {
    const LayerLoad* load = nullptr;  // null: nothing to observe
    PlanPair plans;
    PassDurations durations;
  };

  PlanPolicy& policy_;
  std::vector<Pending> pending_;
};

/// Runs all iterations with a policy, by simulated durations. `before`, if given, is called with the index of
/// each iteration before its plans are chosen.
/// @throws InputError for a plan that cannot run; what the policy throws.
[[nodiscard]] std::vector<ReplayedIteration> replay_policy(
    const ScenarioTrace& trace, PlanPolicy& policy, OutcomeTable& table, LoadSimulator& simulator,
    const ObservationNoise& noise, const std::function<void(std::size_t iteration)>& before = {});

}  // namespace flex
