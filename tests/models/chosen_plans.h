#pragma once

#include <memory>
#include <string>

#include "costmodel/cost_model.h"
#include "models/planned_layer.h"
#include "runtime/local_cluster.h"
#include "tuner/policy.h"

namespace flex::testing {

/// Plans of a run as text: one pair for all layers and passes, or `online`, a policy that chooses.
class ChosenPlans {
 public:
  ChosenPlans(const std::string& text, RankContext& context)
      : cluster_(local_cluster(context.cluster().topology(), context.device())),
        costs_(cost_model_of(cluster_)) {
    if (text == "online") {
      policy_ = make_policy({.kind = PolicyKind::kOnline}, {.cluster = cluster_, .costs = &costs_});
    } else {
      plans_ = parse_plan_pair(text);
    }
  }
  ChosenPlans(const ChosenPlans&) = delete;
  ChosenPlans& operator=(const ChosenPlans&) = delete;

  /// Valid while this lives.
  [[nodiscard]] PlanSource source() const { return {.plans = plans_, .policy = policy_.get()}; }

 private:
  Cluster cluster_;
  CostModel costs_;
  PlanPair plans_;
  std::unique_ptr<PlanPolicy> policy_;
};

}  // namespace flex::testing
