#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>

#include "costmodel/cost_model.h"
#include "models/planned_layer.h"
#include "models/training_config.h"
#include "tuner/cache_snapshot.h"

namespace flex::cli {

/// Where the plans of a model's MoE layers come from, with the same names in every subcommand.
struct ModelPlanOptions {
  std::string plan = "r1 d1 linear";
  std::string policy;  ///< empty: `plan` always
  std::string cache;
  std::string record;  ///< file for the routing; empty: none
};

/// All but `record`.
void add_model_plan_options(CLI::App& command, ModelPlanOptions& options);

/// One rank's policy and recorder with what they need. Collective.
class ModelPlans {
 public:
  /// @throws InputError for options that cannot be.
  ModelPlans(const ModelPlanOptions& options, const ModelFile& file, bool trains, RankContext& context);

  [[nodiscard]] PlanSource source();
  /// After the last pass, while the model lives; ends the recording. Collective.
  void finish_blocking();

 private:
  ModelPlanOptions options_;
  PlanPair plans_;
  Cluster cluster_;
  CostModel costs_;
  CacheSnapshot snapshot_;
  std::unique_ptr<PlanPolicy> policy_;
  std::optional<TraceRecorder> recorder_;
};

}  // namespace flex::cli
