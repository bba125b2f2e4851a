#pragma once

#include <cstdint>
#include <functional>

#include "costmodel/cluster.h"
#include "costmodel/cost_model.h"
#include "costmodel/layer_load.h"
#include "costmodel/pass_sequence.h"
#include "costmodel/plan_pair.h"
#include "tuner/cache_snapshot.h"
#include "tuner/online_settings.h"

namespace flex {

/// What a policy chooses by. What it points to must live as long as the policy.
struct PolicyContext {
  Cluster cluster;
  const CostModel* costs = nullptr;         ///< of the cluster; needed by all but static and oracle
  const CacheSnapshot* snapshot = nullptr;  ///< null: none
  std::uint64_t environment = 0;            ///< environment_id; a snapshot of another one is ignored
  Passes passes = Passes::kBoth;  ///< kForward: without backward passes, whose plans are the forward ones
  OnlineSettings online{};
  bool speaks = true;  ///< says what people should know: of the ranks that choose alike, one does
  /// Whether a legal plan may run at a load, e.g. because its memory fits; null: all may.
  std::function<bool(const LayerLoad&, const Plan&)> may_run{};
  /// For the oracle: what a pass takes with a legal plan, in microseconds.
  std::function<double(const LayerLoad&, const Plan&, Pass)> truth_us{};

  /// Legal, and may run.
  [[nodiscard]] bool allows(const LayerLoad& load, const Plan& plan) const;
  [[nodiscard]] bool allows(const LayerLoad& load, const PlanPair& plans) const;
};

}  // namespace flex
