#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/require.h"
#include "cli/checks.h"
#include "cli/cluster_options.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/layer_options.h"
#include "cli/prediction_table.h"
#include "cli/progress.h"
#include "cli/validate.h"
#include "costmodel/calibration.h"
#include "costmodel/cluster_description.h"
#include "costmodel/plan_space.h"
#include "costmodel/prediction.h"
#include "costmodel/simulation_spans.h"
#include "costmodel/stream_use.h"
#include "profiler/chrome_trace.h"

// flexmoe simulate --cluster azure_ndv4_a100 --nodes 32 --tokens 16384 ... [--plan P|all|best]
// [--scale 16..2048] Predicts what a layer takes on a described cluster. Needs no GPU.
namespace flex::cli {
namespace {

struct Options {
  LayerOptions layer;
  ClusterOptions machine{.cluster = "azure_ndv4_a100"};
  std::string samples;
  std::string write_calibration;
  bool tf32 = false;
  bool no_tf32 = false;
  std::optional<double> experts_per_rank;
  std::optional<std::int64_t> needed_capacity;
  std::string plan;
  std::string backward_plan;
  std::string pass = "training";
  std::string baseline = "none";
  std::string scale;
  std::string trace;
  int layers = 1;
  bool validate = false;
  ValidateOptions validation;
  bool json = false;
};

/// Built-in parameters, those of a file, or what samples say; with TF32 as it was asked for.
Calibration calibration_for(const Options& options, const Cluster& cluster) {
  Calibration calibration = options.machine.calibration_of(cluster);
  if (!options.samples.empty()) {
    const CalibrationResult fit =
        calibrate(cluster, read_cost_samples(options.samples), calibration.parameters);
    calibration = to_calibration(fit, cluster, "flexmoe simulate --samples " + options.samples);
  }
  require(!options.tf32 || cluster.device.peak_tf32_TFLOPs > 0, "--tf32: {} has no TF32 products",
          cluster.device.name);
  if (options.tf32 || options.no_tf32) calibration.parameters.compute.tf32_experts = options.tf32;
  if (!options.write_calibration.empty()) write_calibration_file(options.write_calibration, calibration);
  return calibration;
}

std::string layer_text(const Options& options, const Calibration& calibration) {
  const bool tf32 = options.layer.dtype == "fp32" && calibration.parameters.compute.tf32_experts;
  return options.layer.text(options.experts_per_rank ? fmt::format("{} per rank", *options.experts_per_rank)
                                                     : std::string()) +
         (tf32 ? ", products in TF32" : "");
}

std::int64_t num_experts(const Options& options, int world) {
  if (!options.experts_per_rank) return options.layer.experts;
  const double experts = *options.experts_per_rank * world;
  require(experts >= 1 && experts == std::floor(experts),
          "--experts-per-rank {}: {} ranks would have {} experts; take a multiple of 1/{}",
          *options.experts_per_rank, world, experts, world);
  return static_cast<std::int64_t>(experts);
}

LayerStack stack_of(const Options& options, const Cluster& cluster) {
  LayerOptions layer = options.layer;
  layer.experts = num_experts(options, cluster.world());
  const Workload workload = layer.workload(cluster.world(), options.needed_capacity);
  LayerStack stack{.workload = workload, .cluster = cluster, .num_layers = options.layers};
  if (options.pass == "forward") stack.passes = Passes::kForward;
  if (options.pass == "backward") stack.passes = Passes::kBackward;
  return stack;
}

std::vector<PlanPrediction> predictions_of(const Options& options, PlanPredictor& predictor) {
  if (options.plan == "all" || options.plan == "best") {
    require(options.backward_plan.empty(), "--backward-plan goes with one --plan, not with {}", options.plan);
    if (options.plan == "all") return predictor.all();
    return {predictor.best()};
  }
  require(options.backward_plan.empty() || options.pass == "training",
          "--backward-plan goes with --pass training, not with {}", options.pass);
  const Plan forward = parse_plan(options.plan);
  const Plan backward = options.backward_plan.empty() ? forward : parse_plan(options.backward_plan);
  return {predictor.predict(forward, backward)};
}

PredictionRow row_of(const Options& options, const Cluster& cluster, const CostModel& costs) {
  const LayerStack stack = stack_of(options, cluster);
  PlanPredictor predictor(stack, costs);
  PredictionRow row{.cluster = cluster, .workload = stack.workload};
  row.plans = predictions_of(options, predictor);
  if (options.baseline == "fairseq") row.baseline = predict_fairseq(stack, costs);
  const PlanPrediction& shown = row.plans.front();
  const Simulation timeline = predictor.timeline(shown.forward, shown.backward);
  row.streams = stream_use(timeline, 0);
  if (!options.trace.empty())
    write_chrome_trace(options.trace, spans_of(timeline, "simulated, all ranks alike:"));
  return row;
}

/// `16..2048`: numbers of ranks, each twice the one before.
std::vector<int> ranks_of_scale(const std::string& scale, const Cluster& cluster) {
  const std::size_t dots = scale.find("..");
  const auto number = [&](const std::string& text) {
    try {
      std::size_t used = 0;
      const int value = std::stoi(text, &used);
      if (used == text.size() && value >= 1) return value;
    } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch): said below
    }
    fail("--scale is '{}'; it is two numbers of ranks, such as 16..2048", scale);
  };
  require(dots != std::string::npos, "--scale is '{}'; it is two numbers of ranks, such as 16..2048", scale);
  const int first = number(scale.substr(0, dots));
  const int last = number(scale.substr(dots + 2));
  require(first <= last, "--scale is '{}'; the first number is the smaller one", scale);
  require(first % cluster.ranks_per_node == 0,
          "--scale: {} ranks do not fill nodes of {}; begin with a multiple of {}", first,
          cluster.ranks_per_node, cluster.ranks_per_node);
  std::vector<int> result;
  for (int ranks = first; ranks < last; ranks *= 2) result.push_back(ranks);
  require(last % cluster.ranks_per_node == 0,
          "--scale: {} ranks do not fill nodes of {}; end with a multiple of {}", last,
          cluster.ranks_per_node, cluster.ranks_per_node);
  result.push_back(last);
  return result;
}

nlohmann::ordered_json inputs_json(const Options& options, const Calibration& calibration) {
  nlohmann::ordered_json json = options.layer.json();
  if (options.experts_per_rank) {
    json.erase("experts");
    json["experts_per_rank"] = *options.experts_per_rank;
  }
  json.update({{"tf32_products", calibration.parameters.compute.tf32_experts},
               {"pass", options.pass},
               {"layers", options.layers},
               {"cluster", options.machine.cluster},
               {"calibration",
                {{"cluster", calibration.cluster},
                 {"description", calibration.description},
                 {"source", calibration.source},
                 {"fitted", calibration.fitted}}}});
  return json;
}

void run_scale(Options options) {
  require(options.trace.empty(), "--trace is of one size; leave out --scale");
  if (options.plan.empty()) options.plan = "best";
  require(options.plan != "all", "--scale has one row for each size; use --plan best, or one plan");
  const Cluster cluster = options.machine.load();
  const std::vector<int> sizes = ranks_of_scale(options.scale, cluster);
  std::vector<PredictionRow> rows;
  std::optional<Calibration> calibration;
  {
    const Interrupt interrupt;
    Progress progress("simulate");
    for (const int ranks : sizes) {
      const Cluster sized = load_cluster(options.machine.cluster, ranks / cluster.ranks_per_node);
      if (!calibration) calibration = calibration_for(options, sized);
      try {
        rows.push_back(row_of(options, sized, CostModel(sized, calibration->parameters)));
      } catch (const InputError& error) {
        fail("at {} ranks: {}", ranks, error.what());
      }
      progress.update(static_cast<int>(rows.size()), static_cast<int>(sizes.size()));
    }
  }
  if (options.json) {
    fmt::print("{}\n", predictions_json(inputs_json(options, *calibration), rows).dump(2));
  } else {
    fmt::print("{}\n{}\n{}", layer_text(options, *calibration), calibration_text(*calibration, cluster),
               scale_table(rows));
  }
}

void say_where(const std::string& trace) {
  if (!trace.empty()) fmt::print("timeline written to {}; open it at ui.perfetto.dev\n", trace);
}

void run(Options options) {
  require_writable(options.trace);
  require_writable(options.write_calibration);
  if (options.validate) {
    options.validation.dtype = options.layer.dtype;
    options.validation.trace = options.trace;
    options.validation.json = options.json;
    return run_validation(options.validation);
  }
  if (!options.scale.empty()) return run_scale(options);
  if (options.plan.empty()) options.plan = "all";
  const Cluster cluster = options.machine.load();
  const Calibration calibration = calibration_for(options, cluster);
  const PredictionRow row = row_of(options, cluster, CostModel(cluster, calibration.parameters));
  if (options.json) {
    fmt::print("{}\n", predictions_json(inputs_json(options, calibration), {row}).dump(2));
    return;
  }
  fmt::print("{}\n{} ranks on {} node(s) of {}, {} experts, capacity {}, {} pass\n{}\n{}",
             layer_text(options, calibration), cluster.world(), cluster.nodes, cluster.name,
             row.workload.num_experts, row.workload.capacity, options.pass,
             calibration_text(calibration, cluster), prediction_table(row));
  say_where(options.trace);
}

}  // namespace

void add_simulate(CLI::App& app, Outcome& /*outcome*/) {
  CLI::App* command =
      app.add_subcommand("simulate", "Predict what a layer takes on a cluster that need not be there");
  auto options = std::make_shared<Options>();
  options->layer.tokens = 16384;
  options->layer.model_dim = options->layer.hidden_dim = 2048;
  add_layer_options(*command, options->layer);
  const auto [cluster, nodes, calibration] = add_cluster_options(*command, options->machine);
  command
      ->add_option("--samples", options->samples,
                   "Fit the parameters to these measured operations first (JSON lines)")
      ->check(CLI::ExistingFile);
  command
      ->add_option("--write-calibration", options->write_calibration,
                   "Write the parameters that were used to this file")
      ->type_name("FILE");
  command
      ->add_flag("--no-tf32", options->no_tf32,
                 "fp32 experts: products in fp32 whatever the calibration says")
      ->excludes(command->add_flag("--tf32", options->tf32, "fp32 experts: products in TF32"));
  command
      ->add_option("--experts-per-rank", options->experts_per_rank,
                   "Experts on each rank, instead of --experts: 2, 1, 0.5 ...")
      ->check(CLI::Range(1e-6, 1e6))
      ->excludes(command->get_option("--experts"));
  command->add_option("--needed-capacity", options->needed_capacity,
                      "With f <= 0: slots that the fullest expert needs (as if balanced)");
  command->add_option("--layers", options->layers, "Equal layers one after the other")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  CLI::Option* plan =
      command
          ->add_option("--plan", options->plan,
                       "A plan such as 'r1 d2 linear', all (the default), or best (the default of --scale)")
          ->type_name("PLAN");
  command
      ->add_option("--backward-plan", options->backward_plan,
                   "Another plan of the same r for the backward pass (the same plan)")
      ->type_name("PLAN");
  command->add_option("--pass", options->pass, "forward, backward, or training (both)")
      ->check(CLI::IsMember({"forward", "backward", "training"}))
      ->capture_default_str();
  command->add_option("--baseline", options->baseline, "Compare with: fairseq (einsum, no overlap), or none")
      ->check(CLI::IsMember({"fairseq", "none"}))
      ->capture_default_str();
  CLI::Option* scale =
      command
          ->add_option(
              "--scale", options->scale,
              "A row for each of several sizes: numbers of ranks from .. to, doubling, e.g. 16..2048")
          ->type_name("RANGE");
  scale->excludes(nodes);
  command
      ->add_option("--timeline,--trace", options->trace,
                   "Write the timeline of the plan (the fastest of several) for Perfetto")
      ->type_name("FILE");
  CLI::Option* validate = command->add_flag(
      "--validate", options->validate,
      "Measure ranks of this host instead, calibrate, and compare predictions with other passes");
  for (CLI::Option* other : {cluster, nodes, calibration, plan, scale}) validate->excludes(other);
  add_validate_options(*command, *validate, options->validation);
  command->add_flag("--json", options->json, "Print JSON");
  command->footer(
      "Examples:\n"
      "  flexmoe simulate --cluster azure_ndv4_a100 --nodes 32 --experts 512 --plan best --timeline "
      "best.json\n"
      "  flexmoe simulate --cluster azure_ndv4_a100 --experts-per-rank 2 --scale 16..2048 --baseline "
      "fairseq");
  command->callback([options] { run(*options); });
}

}  // namespace flex::cli
