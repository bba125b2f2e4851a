#include "cli/model_plans.h"

#include "base/require.h"
#include "cli/recording.h"
#include "cli/run_cache.h"
#include "models/model_benchmark.h"
#include "runtime/local_cluster.h"
#include "tuner/cache.h"
#include "tuner/policy.h"

namespace flex::cli {

void add_model_plan_options(CLI::App& command, ModelPlanOptions& options) {
  command
      .add_option("--plan", options.plan,
                  "Plan of all MoE layers: 'r1 d2 linear', or two, forward / backward")
      ->type_name("PLAN")
      ->capture_default_str();
  command
      .add_option("--policy", options.policy,
                  "Chooses plans layer by layer and pass by pass instead: dictionary, model, online, "
                  "static:PLAN (none)")
      ->type_name("POLICY");
  options.cache = default_cache_path().string();
  command
      .add_option(
          "--cache", options.cache,
          "With --policy: the tuning cache that it begins with; otherwise FLEX_CACHE, or tuning.db in "
          "flexmoe's folder of the user's caches")
      ->type_name("FILE");
}

ModelPlans::ModelPlans(const ModelPlanOptions& options, const ModelFile& file, bool trains,
                       RankContext& context)
    : options_(options),
      plans_(parse_plan_pair(options.plan)),
      cluster_(local_cluster(context.cluster().topology(), context.device())),
      costs_(cost_model_of(cluster_)) {
  require(!file.model.moe.blocks.empty() || (options.policy.empty() && options.record.empty()),
          "{} has no MoE layers: there is nothing to choose plans for or to record", file.model.name);
  if (!options.policy.empty()) {
    snapshot_ = snapshot_for_run(options.cache, context, cluster_, false);
    policy_ = make_policy(parse_policy(options.policy), {.cluster = cluster_,
                                                         .costs = &costs_,
                                                         .snapshot = &snapshot_,
                                                         .environment = snapshot_.environment(),
                                                         .passes = trains ? Passes::kBoth : Passes::kForward,
                                                         .speaks = context.rank() == 0});
  }
  if (!options.record.empty()) {
    recorder_.emplace(
        options.record,
        recorded_header(file.model.name, trace_layers_of(file.model, file.training, trains, context.size()),
                        context),
        context);
  }
}

PlanSource ModelPlans::source() {
  return {.plans = plans_, .policy = policy_.get(), .recorder = recorder_ ? &*recorder_ : nullptr};
}

void ModelPlans::finish_blocking() {
  if (!recorder_) return;
  recorder_->finish_blocking();
  end_recording(*recorder_, options_.record);
}

}  // namespace flex::cli
