#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/moe_config.h"
#include "runtime/rank_context.h"
#include "runtime/trace_recorder.h"
#include "traces/imbalance_workload.h"
#include "tuner/plan_policy.h"

namespace flex {

/// A policy that is compared with others.
struct ComparedPolicy {
  std::string name;
  /// Called once on every rank; the policies that it makes are in the same state.
  std::function<std::unique_ptr<PlanPolicy>()> make;
  /// Iterations in which it tried plans, asked at the end; null: it does not tell.
  std::function<std::int64_t(const PlanPolicy&)> num_explored;
};

/// One layer whose routing moves while it is trained, dropless: as a named imbalance, or else a share of the
/// tokens that grows and falls again goes to expert 0 first.
struct PolicyBenchmark {
  MoeConfig config;             ///< with a linear gate
  std::int64_t num_tokens = 0;  ///< T, on every rank; a named imbalance may give a rank fewer
  std::int64_t top_k = 1;
  int iterations = 100;
  /// With it every expert gets what generated_counts() says, and `drift` stays 1.
  std::optional<ImbalanceWorkload> imbalance;
  double drift = 1;  ///< the largest needed capacity over the smallest, about; from 1 to E / k
  std::uint64_t seed = 1;
};

/// How its passes are called.
[[nodiscard]] ForwardCall forward_call_of(const PolicyBenchmark& benchmark);

/// One policy's run, equal on all ranks.
struct PolicyRun {
  struct Use {
    PlanPair plans;
    std::int64_t iterations = 0;
  };
  std::string name;
  /// Of all iterations, each the longest of the ranks: forward and backward, and what choosing plans took.
  double total_us = 0;
  std::vector<Use> plans;                    ///< the most used first
  std::int64_t num_changes = 0;              ///< iterations whose plans were not those of the one before
  std::optional<std::int64_t> num_explored;  ///< see ComparedPolicy
  bool disagreed = false;                    ///< see AdaptiveLayer
};

struct PolicyComparison {
  std::vector<PolicyRun> runs;      ///< in the order of the policies
  std::int64_t least_capacity = 0;  ///< C over the iterations
  std::int64_t largest_capacity = 0;
};

/// Runs every policy on the same tokens: iteration by iteration, one after the other in turns, so that what
/// else the machine does meets them all. Each has a layer of its own, which has run every plan before.
/// Collective. `progress` as in benchmark_layer(). `recorder`, of one layer, records the iterations of a
/// single policy, to the last one.
/// @throws InputError for a benchmark that cannot be, or several policies with a recorder.
[[nodiscard]] PolicyComparison compare_policies(const PolicyBenchmark& benchmark,
                                                const std::vector<ComparedPolicy>& policies,
                                                RankContext& context,
                                                const std::function<void(int, int)>& progress = {},
                                                TraceRecorder* recorder = nullptr);

}  // namespace flex
