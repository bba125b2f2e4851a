#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "base/require.h"
#include "cli/cluster_options.h"
#include "cli/commands.h"
#include "cli/explain_table.h"
#include "cli/layer_options.h"
#include "cli/prediction_table.h"
#include "cli/rank_options.h"
#include "cli/table.h"
#include "costmodel/layer_memory.h"
#include "costmodel/plan_space.h"
#include "runtime/environment.h"
#include "runtime/local_cluster.h"
#include "runtime/pinned_plans.h"
#include "tuner/stored_calibration.h"

// flexmoe explain --ranks 4 --tokens ... | --cluster azure_ndv4_a100 --nodes 32 --tokens ...
// Says why a layer runs, or would run, with its plans: candidates, predictions, trials, what is illegal.
namespace flex::cli {
namespace {

struct Options {
  LayerOptions layer;
  RankOptions machine;
  ClusterOptions described;
  std::optional<std::int64_t> needed_capacity;
  double max_over_mean = 1;
  std::string cache = default_cache_path().string();
  std::uint64_t memory_limit_bytes = 0;
  bool json = false;
};

constexpr Pass kPasses[] = {Pass::kForward, Pass::kBackward};

/// Cluster and environment that the question is about.
struct Machine {
  Cluster cluster;
  Environment environment;
  std::string text;
};

Machine machine_of(const Options& options) {
  if (!options.described.cluster.empty()) {
    const Cluster cluster = options.described.load();
    return {cluster, environment_of(cluster),
            fmt::format("{} ranks on {} node(s) of {}", cluster.world(), cluster.nodes, cluster.name)};
  }
  Machine machine;
  options.machine.run("explain", [&](Communicator& world) {
    const Device device = options.machine.usable_device(*parse_dtype(options.layer.dtype));
    RankContext context(world, device, {.allow_tf32 = options.machine.tf32});
    const Cluster cluster = local_cluster(world.counters().topology(), device);
    const Environment environment = environment_of(context, cluster);
    if (world.rank() == 0) machine = {cluster, environment, world.description()};
  });
  return machine;
}

/// Every combination that someone could write down for this many ranks, and why it cannot run.
std::map<std::string, std::vector<std::string>> illegal_plans(const TuningTarget& target,
                                                              const MemoryLimit& limit) {
  const Workload& workload = target.problem.workload;
  std::map<std::string, std::vector<std::string>> illegal;
  for (const std::int32_t r : PlanSpace::parallel_degrees(workload)) {
    for (const std::int32_t d : kPipelineDegrees) {
      for (const auto algorithm : {AllToAllAlgorithm::kLinear, AllToAllAlgorithm::kHierarchical2d}) {
        for (const auto kernel : {ExpertKernel::kPadded, ExpertKernel::kCounted}) {
          const Plan plan{r, d, algorithm, kernel};
          if (const auto reason = why_illegal(plan, workload, target.problem.cluster)) {
            illegal[*reason].push_back(to_string(plan));
          } else if (!std::ranges::binary_search(target.problem.plans, plan)) {
            illegal[fmt::format("need more on a rank than --memory-limit {}",
                                format_bytes(static_cast<double>(limit.bytes)))]
                .push_back(
                    fmt::format("{} ({})", to_string(plan),
                                format_bytes(static_cast<double>(limit.needed_bytes(workload, plan)))));
          }
        }
      }
    }
  }
  return illegal;
}

/// The latest trial of each plan from the source that is trusted most.
class LatestTrials {
 public:
  /// `cache`, null or not, and `target` must live as long.
  LatestTrials(TuningCache* cache, const TuningTarget& target) : cache_(cache), target_(target) {}

  [[nodiscard]] const Trial* of(const Plan& plan, Pass pass) {
    if (cache_ == nullptr) return nullptr;
    const TuningKey key = target_.key_of(plan, pass);
    const auto [known, is_new] = cases_.try_emplace(key.one);
    if (is_new) {
      for (const Trial& trial : cache_->trials(key)) {  // from the oldest on
        const auto [latest, is_first] = known->second.try_emplace(trial.plan, trial);
        if (!is_first && trial.source >= latest->second.source) latest->second = trial;
      }
    }
    const auto found = known->second.find(plan);
    return found == known->second.end() ? nullptr : &found->second;
  }

 private:
  TuningCache* cache_;
  const TuningTarget& target_;
  std::map<TuningCase, std::map<Plan, Trial>> cases_;
};

std::vector<ExplainedPlan> candidates_of(const TuningTarget& target, const CostModel& costs,
                                         TuningCache* cache, const MemoryLimit& limit) {
  std::map<Pass, PlanPredictor> predictors;
  for (const Pass pass : kPasses) {
    const LayerStack stack{.workload = target.problem.workload,
                           .cluster = target.problem.cluster,
                           .passes = pass == Pass::kForward ? Passes::kForward : Passes::kBackward};
    predictors.emplace(pass, PlanPredictor(stack, costs));
  }
  LatestTrials trials(cache, target);
  std::vector<ExplainedPlan> candidates;
  for (const Plan& plan : target.problem.plans) {
    ExplainedPlan one{.plan = plan, .memory_bytes = limit.needed_bytes(target.problem.workload, plan)};
    for (auto& [pass, predictor] : predictors) {
      if (plan.expert_kernel == ExpertKernel::kPadded) one.predicted[pass] = predictor.predict(plan, plan);
      if (const Trial* trial = trials.of(plan, pass)) one.trials[pass] = *trial;
    }
    candidates.push_back(std::move(one));
  }
  const auto predicted_us = [](const ExplainedPlan& one) {
    double us = 0;
    for (const auto& [pass, prediction] : one.predicted) us += prediction.total_us;
    return one.predicted.empty() ? std::numeric_limits<double>::infinity() : us;
  };
  std::ranges::stable_sort(candidates, {}, predicted_us);
  return candidates;
}

/// The pair that the model takes for the fastest.
PlanPair model_choice(const std::vector<ExplainedPlan>& candidates) {
  std::vector<TimedPlan> timed;
  for (const ExplainedPlan& one : candidates) {
    for (const auto& [pass, prediction] : one.predicted)
      timed.push_back({one.plan, pass, prediction.total_us});
  }
  const auto best = fastest_pair(timed, Passes::kBoth);
  return best ? static_cast<const PlanPair&>(*best) : PlanPair{};
}

/// Fills in what is chosen, and why.
void choose(Explanation& e, TuningCache* cache, const CostModel& costs) {
  const Workload& workload = e.target.problem.workload;
  const auto may_run = [&](const Plan& plan, Pass) {
    return std::ranges::binary_search(e.target.problem.plans, plan);
  };
  const CacheSnapshot snapshot = cache != nullptr ? cache->snapshot(e.target.environment) : CacheSnapshot();
  const TunedPlans tuned =
      tuned_plans(snapshot, {workload, e.target.max_over_mean}, e.target.problem.cluster, costs, may_run);
  using enum CacheSnapshot::Hit;
  e.chosen = tuned.plans;
  if (const auto pinned = pinned_plans()) {
    e.chosen = *pinned;
    e.why = "FLEX_PLAN pins it, whatever the cache says";
  } else if (tuned.forward_hit == kExact) {
    e.why = tuned.is_complete ? "the cache has a decision for this load, of a search that came to its end"
                              : "the cache has a decision for this load; its search was cut short";
  } else if (tuned.forward_hit == kNeighbour) {
    e.why =
        "the cache has a decision for the nearest load, and the model says that it beats the default here";
  } else {
    const PlanPair model = model_choice(e.candidates);
    e.why = fmt::format(
        "the cache has no decision for this load or one near it; a policy that trusts the model would take "
        "{}",
        to_string(model));
  }
  for (const Pass pass : kPasses) {
    e.decisions[pass] =
        cache != nullptr ? cache->decision(e.target.key_of(e.chosen.of(pass), pass)) : std::nullopt;
  }
}

void run(const Options& options) {
  const Machine machine = machine_of(options);
  if (machine.text.empty()) return;  // another rank of the job prints
  const Workload workload = options.layer.workload(machine.cluster.world(), options.needed_capacity);
  Explanation e{.target = {.problem = search_problem(workload, machine.cluster),
                           .environment = machine.environment,
                           .max_over_mean = options.max_over_mean},
                .where = fmt::format("{}\n{}", options.layer.text(), machine.text)};
  const MemoryLimit limit{.bytes = static_cast<std::int64_t>(options.memory_limit_bytes)};
  std::erase_if(e.target.problem.plans,
                [&](const Plan& plan) { return plan != kDefaultPlan && !limit.allows(workload, plan); });
  std::optional<TuningCache> cache;
  if (!options.cache.empty() && std::filesystem::exists(options.cache)) {
    cache = TuningCache::open(options.cache, {.mode = CacheMode::kRead});
    e.cache = fmt::format("tuning cache {}", options.cache);
  } else {
    e.cache =
        options.cache.empty() ? "no tuning cache" : fmt::format("there is no tuning cache {}", options.cache);
  }
  TuningCache* known = cache ? &*cache : nullptr;
  std::optional<Calibration> calibration;
  if (known != nullptr && options.described.calibration.empty()) {
    calibration = stored_calibration(*known, machine.environment, machine.cluster);
  }
  if (!calibration) calibration = options.described.calibration_of(machine.cluster);
  e.calibration = calibration_text(*calibration, machine.cluster);
  e.calibration.pop_back();
  const CostModel costs(machine.cluster, calibration->parameters);
  e.candidates = candidates_of(e.target, costs, known, limit);
  choose(e, known, costs);
  e.illegal = illegal_plans(e.target, limit);
  options.json ? fmt::print("{}\n", explanation_json(e).dump(2)) : fmt::print("{}", explanation_text(e));
}

}  // namespace

void add_explain(CLI::App& app, Outcome& /*outcome*/) {
  CLI::App* command = app.add_subcommand("explain", "Say why a layer runs, or would run, with its plans");
  command->footer(
      "Examples:\n"
      "  flexmoe explain --ranks 4 --tokens 512 --experts 4\n"
      "  flexmoe explain --cluster azure_ndv4_a100 --nodes 32 --tokens 16384 --experts 512 --memory-limit "
      "8GiB");
  auto options = std::make_shared<Options>();
  add_layer_options(*command, options->layer);
  add_rank_options(*command, options->machine);
  add_cluster_instead_of_ranks(*command, options->described,
                               "On this cluster instead of this host: a built-in one, or a file");
  command->add_option("--needed-capacity", options->needed_capacity,
                      "With f <= 0: slots that the fullest expert needs (as if balanced)");
  command
      ->add_option("--max-over-mean", options->max_over_mean,
                   "With f <= 0: tokens of the fullest expert over those of the mean one")
      ->check(CLI::Range(1.0, 1e9))
      ->capture_default_str();
  add_memory_limit(*command, options->memory_limit_bytes,
                   "Plans whose layer needs more on a rank are left out");
  command
      ->add_option("--cache", options->cache,
                   "The file; otherwise FLEX_CACHE, or tuning.db in flexmoe's folder of the user's caches")
      ->type_name("FILE");
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options] { run(*options); });
}

}  // namespace flex::cli
