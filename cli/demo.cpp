#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/require.h"
#include "cli/checks.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/plan_table.h"
#include "cli/progress.h"
#include "cli/recording.h"
#include "cli/table.h"
#include "costmodel/plan_space.h"
#include "runtime/curve_trainer.h"
#include "runtime/launch.h"
#include "runtime/layer_benchmark.h"

// flexmoe demo FILE.safetensors
// Trains the layer of a training-curve file without dropping tokens, on several ranks with another plan in
// every step, beside the same training on one rank; then times every plan.
namespace flex::cli {
namespace {

using namespace std::chrono_literals;

struct Options {
  std::string file;
  int ranks = 4;
  int ranks_per_node = 2;
  int steps = 40;
  std::string record;  // file for the routing of the run on several ranks; empty: none
  bool json = false;
};

struct Step {
  Plan plan;
  double loss = 0;
};

std::unique_ptr<TraceRecorder> make_recorder(const std::string& file, const TrainingCurve& curve,
                                             RankContext& context) {
  if (file.empty()) return nullptr;
  ForwardCall call = curve.layer.call;
  call.capacity_factor = 0;
  const TraceLayer layer =
      trace_layer_of(curve.layer.config, call, curve.batch * curve.sequence / context.size(), context.size());
  return std::make_unique<TraceRecorder>(file, recorded_header("flexmoe demo", {layer}, context), context);
}

/// `record`: file for the routing; empty: none.
std::vector<Step> train(const TrainingCurve& curve, const Topology& topology, int steps,
                        const std::string& record) {
  std::vector<Step> taken(static_cast<std::size_t>(steps));
  run_ranks(topology, 60s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    const std::unique_ptr<TraceRecorder> recorder = make_recorder(record, curve, context);
    CurveTrainer trainer(curve, context, recorder.get());
    Progress progress(fmt::format("training on {} rank(s)", world.size()));
    for (int step = 0; step < steps; ++step) {
      ForwardCall call = trainer.call();
      call.capacity_factor = 0;  // dropless: the result does not depend on how tokens lie on ranks
      // The capacity is known only once the tokens are routed, so the plan is chosen then: another one in
      // each step.
      const PlanChooser choose = [&](const LayerLoad& load) {
        const std::vector<Plan> plans = PlanSpace(load.workload, context.cluster()).plans();
        const Plan plan = plans[static_cast<std::size_t>(step) * 7 % plans.size()];
        return PlanPair{plan, plan};
      };
      call.choose = &choose;
      const double loss = trainer.step(call);
      if (world.rank() != 0) continue;
      taken[static_cast<std::size_t>(step)] = {trainer.layer().forward_schedule().plan, loss};
      progress.update(step + 1, steps);
    }
    if (recorder == nullptr) return;
    recorder->finish_blocking();
    end_recording(*recorder, record);
  });
  return taken;
}

void print_training(const std::vector<Step>& one, const std::vector<Step>& many, int ranks) {
  Table table({{"step"},
               {fmt::format("plan on {} ranks", ranks), Align::kLeft},
               {"loss"},
               {"loss on one rank"},
               {"difference"}});
  double worst = 0;
  for (std::size_t step = 0; step < many.size(); ++step) {
    const double difference = std::abs(many[step].loss - one[step].loss);
    worst = std::max(worst, difference);
    table.add({fmt::format("{}", step + 1), to_string(many[step].plan),
               fmt::format("{:.6f}", many[step].loss), fmt::format("{:.6f}", one[step].loss),
               fmt::format("{:.1e}", difference)});
  }
  fmt::print("{}largest difference {:.1e}\n", table.text(), worst);
}

nlohmann::ordered_json training_json(const std::vector<Step>& one, const std::vector<Step>& many) {
  nlohmann::ordered_json steps = nlohmann::ordered_json::array();
  for (std::size_t step = 0; step < many.size(); ++step) {
    steps.push_back({{"step", step + 1},
                     {"plan", to_string(many[step].plan)},
                     {"loss", many[step].loss},
                     {"loss_on_one_rank", one[step].loss}});
  }
  return steps;
}

/// Every plan of such a layer, on the ranks of the demo.
std::vector<PlanMeasurement> time_plans(const LayerBenchmark& benchmark, const Topology& topology) {
  std::vector<PlanMeasurement> measurements;
  run_ranks(topology, 60s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    Progress progress("timing plans");
    auto mine =
        benchmark_layer(benchmark, context, [&](int done, int total) { progress.update(done, total); });
    if (world.rank() == 0) measurements = std::move(mine);
  });
  return measurements;
}

void run(const Options& options) {
  const Interrupt interrupt;
  const SafetensorsFile file(options.file);
  const TrainingCurve curve = read_training_curve(file);
  require(options.steps <= 1000, "--steps is {}; at most 1000", options.steps);
  require(curve.batch % options.ranks == 0, "--ranks {}: a batch of {} does not spread over them",
          options.ranks, curve.batch);
  validate(curve.layer.config, options.ranks);
  const Topology topology{.world = options.ranks, .ranks_per_node = options.ranks_per_node};
  const MoeConfig& config = curve.layer.config;
  if (!options.json) {
    fmt::print(
        "Training a layer of {} experts (M = {}, H = {}, k = {}, dropless) on {} in-process ranks,\nwith "
        "another plan in every step: "
        "parallel degree r, pipeline degree d, All-to-All algorithm.\n\n",
        config.num_experts, config.model_dim, config.hidden_dim, curve.layer.call.top_k, options.ranks);
  }
  const std::vector<Step> one = train(curve, {}, options.steps, "");
  const std::vector<Step> many = train(curve, topology, options.steps, options.record);
  if (!options.json) print_training(one, many, options.ranks);

  LayerBenchmark benchmark{.config = config,
                           .num_tokens = curve.batch * curve.sequence / options.ranks,
                           .top_k = curve.layer.call.top_k,
                           .capacity_factor = 0};
  // Fewer experts than ranks, so that ranks share an expert and every kind of plan occurs.
  if (options.ranks % 2 == 0) benchmark.config.num_experts = options.ranks / 2;
  const std::vector<PlanMeasurement> measurements = time_plans(benchmark, topology);
  const auto tokens = static_cast<double>(curve.batch * curve.sequence);
  if (options.json) {
    nlohmann::ordered_json json = {{"ranks", options.ranks}, {"ranks_per_node", options.ranks_per_node}};
    json["steps"] = training_json(one, many);
    json["plans"] = plan_json(measurements, tokens);
    return fmt::print("{}\n", json.dump(2));
  }
  fmt::print(
      "\nAll plans of such a layer with {} experts: one training pass, {} tokens on each of {} ranks in "
      "nodes of {}\n\n{}",
      benchmark.config.num_experts, benchmark.num_tokens, options.ranks, options.ranks_per_node,
      plan_table(measurements, tokens));
}

}  // namespace

void add_demo(CLI::App& app, Outcome&) {
  CLI::App* command =
      app.add_subcommand("demo", "Train one layer on several ranks with another plan in every step");
  auto options = std::make_shared<Options>();
  command->add_option("file", options->file, "A .safetensors file of a training run")
      ->required()
      ->check(CLI::ExistingFile);
  command->add_option("--ranks", options->ranks, "In-process ranks")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  command->add_option("--ranks-per-node", options->ranks_per_node, "Ranks that count as one node")
      ->check(positive_number())
      ->capture_default_str();
  command->add_option("--steps", options->steps, "Training steps")
      ->check(positive_number())
      ->capture_default_str();
  command
      ->add_option("--record", options->record,
                   "Write the routing, plans and times of the training on several ranks to this routing "
                   "trace (.jsonl, or .jsonl.gz to pack it)")
      ->type_name("FILE");
  command->add_flag("--json", options->json, "Print JSON");
  command->footer(
      "Examples:\n"
      "  flexmoe demo tests/golden/moe_train_top2.safetensors\n"
      "  flexmoe demo tests/golden/moe_train_top2.safetensors --ranks 8 --ranks-per-node 4 --record "
      "run.jsonl");
  command->callback([options] { run(*options); });
}

}  // namespace flex::cli
