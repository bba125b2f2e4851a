#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "traces/replay/policy_replay.h"
#include "traces/replay/replay_policy.h"

namespace flex {

/// A pair of plans that ran.
struct PlanUse {
  PlanPair plans;
  std::int64_t iterations = 0;
  double total_us = 0;
};

/// One layer over all iterations.
struct LayerTotals {
  double total_us = 0;
  std::optional<double> regret_us;  ///< above the oracle, where it ran
  std::int64_t plan_changes = 0;
};

/// The most that one rank holds at once: parameters, gradients, activations and scratch of all layers of a
/// step, tokens at their borders, and what the process has beside its tensors.
struct ReplayMemory {
  std::int64_t peak_bytes = 0;
  std::optional<bool> fits;  ///< into the rank's share of a device; nothing: that is not known
  std::int64_t infeasible_steps = 0;
};

/// A policy over a whole trace. Times are sums over iterations, of what passes take one by one.
struct PolicyResult {
  ReplayPolicy policy;
  std::optional<PlanPair> resolved;  ///< behind best-static
  double total_us = 0;
  double forward_us = 0;
  double backward_us = 0;
  /// Half width of the band around the total. What is wrong with the model is wrong in every iteration, so
  /// errors of iterations add.
  double error_us = 0;
  std::array<double, kNumOperationClasses> class_us{};  ///< they add up to the total
  std::array<double, kNumCostOrigins> origin_us{};      ///< so do these
  ReplayMemory memory;
  std::vector<LayerTotals> layers;
  std::vector<PlanUse> plans;  ///< the most used first, then ascending
  std::int64_t plan_changes = 0;
  std::vector<double> iteration_us;          ///< by iteration
  std::vector<std::int32_t> iteration_plan;  ///< by iteration: index into plans
  /// Of kRecorded: what the passes took in the recorded run, if all of them were timed.
  std::optional<double> measured_us;

  std::optional<double> speedup_over_default;
  std::optional<double> speedup_over_best_static;
  std::optional<double> regret_us;     ///< above the oracle
  std::optional<double> regret_share;  ///< of the oracle's total
};

/// Sums up. @param base_bytes what a process has beside its tensors
[[nodiscard]] PolicyResult policy_result(const ReplayPolicy& policy, const ScenarioTrace& trace,
                                         std::span<const ReplayedIteration> replayed, const Cluster& cluster,
                                         std::int64_t base_bytes);

/// Fills in speedups and regret: of the default plan, best-static and the oracle, those that are there.
void fill_in_comparisons(std::span<PolicyResult> results, const ScenarioTrace& trace);

/// Bytes of one rank's share of a device; nothing if that is not known.
[[nodiscard]] std::optional<std::int64_t> rank_memory_bytes(const Cluster& cluster);

}  // namespace flex
