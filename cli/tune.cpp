#include "tuner/tune.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/require.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/run_cache.h"
#include "cli/table.h"
#include "cli/tune_grid.h"
#include "cli/tune_options.h"
#include "cli/tune_progress.h"
#include "cli/tune_table.h"
#include "costmodel/layer_memory.h"
#include "runtime/environment.h"
#include "runtime/gather_texts.h"
#include "runtime/local_cluster.h"
#include "runtime/measured_evaluator.h"
#include "tuner/recorded_sweep.h"
#include "tuner/simulated_evaluator.h"

// flexmoe tune --ranks 4 --tokens ... [--grid FILE] [--strategy model,dictionary]
// flexmoe tune --cluster azure_ndv4_a100 --nodes 32 --tokens ...
// Finds the plans of layers, on the ranks of this host or job or on a simulated cluster, and keeps them in
// the tuning cache.
namespace flex::cli {
namespace {

/// With all plans that the memory limit allows.
SearchProblem problem_of(const Workload& workload, const Cluster& cluster, const TuneOptions& options) {
  SearchProblem problem = search_problem(workload, cluster, options.passes());
  const MemoryLimit limit{.bytes = static_cast<std::int64_t>(options.memory_limit_bytes),
                          .settings = {.training = options.passes() == Passes::kBoth}};
  require(limit.allows(workload, kDefaultPlan),
          "--memory-limit {}: the default plan {} needs {} on each rank",
          format_bytes(static_cast<double>(limit.bytes)), to_string(kDefaultPlan),
          format_bytes(static_cast<double>(limit.needed_bytes(workload, kDefaultPlan))));
  std::erase_if(problem.plans, [&](const Plan& plan) { return !limit.allows(workload, plan); });
  return problem;
}

TuneSettings settings_of(const TuneOptions& options, TrialSource source, std::int64_t num_warmup,
                         TuneProgress* progress) {
  TuneSettings settings{.strategies = strategies_of(options),
                        .budget = budget_of(options),
                        .seed = options.seed,
                        .conditions = {.source = source, .origin = "flexmoe tune", .num_warmup = num_warmup}};
  if (progress != nullptr) {
    settings.on_evaluation = [progress](StrategyKind strategy, const EvaluatedPlan& made) {
      progress->update(strategy, made);
    };
  }
  return settings;
}

/// What a run leaves behind for the report.
struct Tuned {
  std::vector<TunedRow> rows;
  std::string where;  ///< what it ran on, in one line
  bool interrupted = false;
};

// The cache of a run that keeps something; rank 0 alone has it.
std::optional<TuningCache> open_for(const TuneOptions& options) {
  if (!options.keeps_results()) return std::nullopt;
  return TuningCache::open(options.cache);
}

Tuned tune_simulated(const TuneOptions& options, const std::vector<LayerOptions>& layers) {
  const Cluster cluster = options.described.load();
  const Calibration calibration = options.described.calibration_of(cluster);
  const CostModel costs(cluster, calibration.parameters);
  std::optional<TuningCache> cache = open_for(options);
  Tuned tuned{.where = fmt::format("simulated: {} ranks on {} node(s) of {}", cluster.world(), cluster.nodes,
                                   cluster.name)};
  TuneProgress progress(layers.size(), options);
  for (const LayerOptions& layer : layers) {
    if (Interrupt::requested()) {
      tuned.interrupted = true;
      break;
    }
    const Workload workload = layer.workload(cluster.world());
    const TuningTarget target{.problem = problem_of(workload, cluster, options),
                              .environment = environment_of(cluster)};
    SimulatedEvaluator evaluator(workload, cluster, costs,
                                 {.relative_spread = options.noise, .seed = options.seed});
    std::vector<EvaluatedPlan> known;
    if (cache && !options.fresh) known = known_evaluations(*cache, target, TrialSource::kSimulated);
    progress.begin_layer(target, options);
    TunedRow row{.layer = layer,
                 .workload = workload,
                 .num_candidates = target.problem.num_candidates(),
                 .result = tune(target, evaluator, known, cache ? &*cache : nullptr, costs,
                                settings_of(options, TrialSource::kSimulated, 0, &progress))};
    for (const Plan& plan : target.problem.plans) {
      for (const Pass pass : passes_of(options.passes())) {
        row.truth.push_back({plan, pass, evaluator.truth_us(plan, pass)});
      }
    }
    tuned.rows.push_back(std::move(row));
  }
  return tuned;
}

/// Rank 0's evaluations on every rank: in a job it alone has the cache.
std::vector<EvaluatedPlan> share_known(const std::vector<EvaluatedPlan>& mine, const Workload& workload,
                                       RankContext& context) {
  std::string lines;
  for (const RecordedPass& pass : recorded(workload, mine)) lines += to_json_line(pass) + "\n";
  const std::string shared = gather_texts_blocking(lines, context.control()).front();
  std::vector<EvaluatedPlan> known;
  for (const RecordedPass& pass : parse_sweep(shared, "what rank 0 knows")) {
    known.push_back(
        {pass.plan, pass.workload.pass, evaluation_of(pass.samples_ns, EvaluationSource::kMeasured)});
  }
  return known;
}

/// One rank's part; rank 0 fills `tuned`.
void tune_rank(const TuneOptions& options, const std::vector<LayerOptions>& layers, Communicator& world,
               Tuned& tuned) {
  const Device device = options.machine.usable_device(*parse_dtype(layers.front().dtype));
  RankContext context(world, device, {.allow_tf32 = options.machine.tf32});
  Stream stream(device);
  const bool is_first = world.rank() == 0;
  const Cluster cluster = local_cluster(world.counters().topology(), device);
  const Environment environment = environment_of(context, cluster);
  std::optional<TuningCache> cache;
  std::optional<TuneProgress> progress;
  if (is_first) {
    cache = open_for(options);
    progress.emplace(layers.size(), options);
    tuned.where = world.description();
  }
  const Calibration calibration =
      calibration_for_run(options.described, cache ? &*cache : nullptr, environment, context, cluster);
  const CostModel costs(cluster, calibration.parameters);
  const MeasurementSettings measurement{.relative_half_width = options.precision,
                                        .seed = options.seed,
                                        .should_stop = [] { return Interrupt::requested(); }};
  for (const LayerOptions& layer : layers) {
    MeasuredEvaluator evaluator(layer.shape(), layer.config(), context, stream, measurement);
    const TuningTarget target{.problem = problem_of(evaluator.workload(), cluster, options),
                              .environment = environment,
                              .max_over_mean = evaluator.load().max_over_mean};
    std::vector<EvaluatedPlan> known;
    if (cache && !options.fresh) known = known_evaluations(*cache, target, TrialSource::kMeasured);
    known = share_known(known, evaluator.workload(), context);
    if (progress) progress->begin_layer(target, options);
    TuneResult result = tune(target, evaluator, known, cache ? &*cache : nullptr, costs,
                             settings_of(options, TrialSource::kMeasured, measurement.num_warmup,
                                         progress ? &*progress : nullptr));
    if (is_first) {
      tuned.rows.push_back({.layer = layer,
                            .workload = evaluator.workload(),
                            .num_candidates = target.problem.num_candidates(),
                            .result = std::move(result)});
      tuned.interrupted = evaluator.stopped();
    }
    if (evaluator.stopped()) break;
  }
}

void print(const TuneOptions& options, const Tuned& tuned, std::size_t num_layers) {
  if (options.json) {
    nlohmann::ordered_json json = {{"on", tuned.where},
                                   {"pass", options.pass},
                                   {"interrupted", tuned.interrupted},
                                   {"cache", options.cache}};
    json.update(tune_json(tuned.rows));
    fmt::print("{}\n", json.dump(2));
    return;
  }
  fmt::print("{}, {} pass\n\n{}", tuned.where, options.pass, tune_table(tuned.rows));
  if (options.keeps_results()) fmt::print("kept in {}\n", options.cache);
  if (tuned.interrupted) {
    fmt::print("stopped after {} of {} layer(s); the same command goes on from here{}\n", tuned.rows.size(),
               num_layers, options.keeps_results() ? "" : ", if it has a --cache");
  }
}

void run(const TuneOptions& options, Outcome& outcome) {
  const std::vector<LayerOptions> layers =
      options.grid.empty() ? std::vector{options.layer} : read_layer_grid(options.grid, options.layer);
  static_cast<void>(strategies_of(options));  // says what is wrong before anything runs
  Tuned tuned;
  {
    const Interrupt interrupt;
    if (options.is_simulated()) {
      tuned = tune_simulated(options, layers);
    } else {
      options.machine.run("tune", [&](Communicator& world) { tune_rank(options, layers, world, tuned); });
    }
  }
  if (tuned.where.empty()) return;  // another rank of the job prints
  print(options, tuned, layers.size());
  if (tuned.interrupted) outcome.exit_code = kInterrupted;
}

}  // namespace

void add_tune(CLI::App& app, Outcome& outcome) {
  CLI::App* command =
      app.add_subcommand("tune", "Find the fastest plans of layers, and keep them in the tuning cache");
  command->footer(
      "Examples:\n"
      "  flexmoe tune --ranks 4 --tokens 512 --experts 4\n"
      "  flexmoe tune --ranks 2 --grid layers.json --strategy model,exhaustive\n"
      "  flexmoe tune --cluster azure_ndv4_a100 --nodes 32 --tokens 16384 --experts 512 --strategy all\n"
      "Ctrl-C keeps what was measured; the same command goes on.");
  auto options = std::make_shared<TuneOptions>();
  add_tune_options(*command, *options);
  command->callback([options, &outcome] { run(*options, outcome); });
}

}  // namespace flex::cli
