#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "base/log.h"
#include "base/require.h"
#include "cli/checks.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/layer_options.h"
#include "cli/model_bench.h"
#include "cli/plan_table.h"
#include "cli/policy_bench.h"
#include "cli/progress.h"
#include "cli/rank_options.h"
#include "cli/run_cache.h"
#include "cli/suite_bench.h"
#include "cli/table.h"
#include "runtime/device_memory_peak.h"
#include "runtime/layer_benchmark.h"
#include "runtime/local_cluster.h"
#include "runtime/memory_suite.h"
#include "runtime/pinned_plans.h"
#include "tuner/cache.h"
#include "tuner/tuned_plans.h"

// flexmoe bench --ranks 4 --ranks-per-node 2 --plan all ...
// mpirun -n 4 flexmoe bench --launcher mpi ...
// srun -n 8 flexmoe bench --launcher nccl --device cuda ...
// flexmoe bench --model CONFIG.json --pass inference
// Times one layer under one plan or all of them, or with plans that policies choose (--policy); or a model.
namespace flex::cli {
namespace {

struct Options {
  LayerOptions layer;
  RankOptions machine;
  PolicyBenchOptions policy;
  std::string plan = "all";
  std::string backward_plan;
  std::string cache = default_cache_path().string();
  std::string pass = "training";
  std::string model;
  std::int64_t batch = 0;
  std::string suite;
  std::string imbalance = "none";
  bool has_dtype = false;  ///< --dtype was given
  bool graphs = false;
  int warmup = 2;
  int repeats = 10;
  bool json = false;
};

LayerBenchmark benchmark_of(const Options& options) {
  LayerBenchmark benchmark{.config = options.layer.config(),
                           .num_tokens = options.layer.tokens,
                           .top_k = options.layer.top_k,
                           .capacity_factor = options.layer.capacity_factor,
                           .training = options.pass == "training",
                           .warmup = options.warmup,
                           .repeats = options.repeats,
                           .graphs = options.graphs};
  const std::optional<Imbalance> imbalance = parse_imbalance(options.imbalance);
  require(imbalance.has_value(), "--imbalance {}: without --policy it is none, hot_expert or half_empty",
          options.imbalance);
  benchmark.imbalance = *imbalance;
  if (options.plan == "tuned") {
    require(options.backward_plan.empty(), "--backward-plan goes with one --plan, not with tuned");
  } else if (options.plan != "all") {
    const Plan forward = parse_plan(options.plan);
    benchmark.plans = {
        {forward, options.backward_plan.empty() ? forward : parse_plan(options.backward_plan)}};
  } else {
    require(options.backward_plan.empty(), "--backward-plan goes with one --plan, not with all");
  }
  return benchmark;
}

/// The cache's plans for the load that comes up. Collective.
PlanChooser tuned_chooser(const Options& options, RankContext& context) {
  const Cluster cluster = local_cluster(context.cluster().topology(), context.device());
  const auto snapshot =
      std::make_shared<const CacheSnapshot>(snapshot_for_run(options.cache, context, cluster, true));
  const CostModel costs = cost_model_of(cluster);
  const bool speaks = context.rank() == 0;
  const std::optional<PlanPair> pinned = pinned_plans_blocking(context);
  return [=](const LayerLoad& load) {
    if (pinned) return *pinned;
    const TunedPlans tuned = tuned_plans(*snapshot, load, cluster, costs);
    if (speaks && tuned.forward_hit == CacheSnapshot::Hit::kDefault) {
      log_warning(
          "tuning cache {}: nothing for this layer at capacity {}; the default plan runs (see flexmoe "
          "tune, flexmoe explain)",
          options.cache, load.workload.capacity);
    }
    return tuned.plans;
  };
}

/// What the ranks have measured together.
struct Measured {
  int world = 1;
  std::string ranks_text;
  std::vector<PlanMeasurement> plans;
  std::optional<std::int64_t> device_memory_bytes;  ///< peak of the program on its CUDA device
  std::optional<DeviceCeilings> ceilings;           ///< of the CUDA device
};

void print(const Options& options, const LayerBenchmark& benchmark, const Measured& measured) {
  const double tokens = static_cast<double>(benchmark.num_tokens) * measured.world;
  if (options.json) {
    nlohmann::ordered_json json = options.layer.json();
    json.update({{"ranks", measured.world}, {"communicator", measured.ranks_text}, {"pass", options.pass}});
    if (measured.device_memory_bytes) json["peak_device_memory_bytes"] = *measured.device_memory_bytes;
    if (measured.ceilings) {
      json["copy_GBps"] = measured.ceilings->copy_GBps;
      json["matrix_TFLOPs"] = measured.ceilings->matrix_TFLOPs;
    }
    json["plans"] = plan_json(measured.plans, tokens);
    fmt::print("{}\n", json.dump(2));
    return;
  }
  fmt::print("{}\n{}, {} pass, median of {} passes\n\n{}", options.layer.text(), measured.ranks_text,
             options.pass, benchmark.repeats, plan_table(measured.plans, tokens));
  if (measured.device_memory_bytes) {
    fmt::print("peak device memory of this program, between passes: {}\n",
               format_bytes(static_cast<double>(*measured.device_memory_bytes)));
  }
  if (measured.plans.size() == 1)
    fmt::print("\n{}", operation_table(measured.plans.front(), measured.ceilings));
}

/// One rank's part. `memory`, of the program's CUDA device or null, is asked by rank 0 alone.
void run_rank(const Options& options, Communicator& world, DeviceMemoryPeak* memory) {
  LayerBenchmark benchmark = benchmark_of(options);
  validate(benchmark.config, world.size());
  const Device device = options.machine.usable_device(benchmark.config.dtype);
  RankContext context(world, device, {.allow_tf32 = options.machine.tf32});
  if (options.plan == "tuned") benchmark.choose = tuned_chooser(options, context);
  if (!options.suite.empty())
    return run_suite_bench(options.suite, benchmark.config.dtype, context, options.json);
  std::vector<PlanMeasurement> measurements;
  {
    Progress progress("bench");
    measurements = benchmark_layer(benchmark, context, [&](int done, int total) {
      if (memory != nullptr) memory->sample();
      progress.update(done, total);
    });
  }
  if (measurements.size() == 1 && !measurements.front().illegal.empty()) {
    fail("plan '{}' cannot run: {}", to_string(measurements.front().plans.forward),
         measurements.front().illegal);
  }
  if (world.rank() != 0) return;
  Measured measured{
      .world = world.size(), .ranks_text = world.description(), .plans = std::move(measurements)};
  if (memory != nullptr) measured.device_memory_bytes = memory->bytes();
  if (device.is_cuda()) {
    Stream stream(device);
    measured.ceilings = measure_ceilings(benchmark.config.dtype, *context.gemm(), stream);
  }
  print(options, benchmark, measured);
}

void run_model(const Options& options) {
  require(options.pass != "forward", "--pass forward is of one layer; a model's are inference and training");
  require(options.policy.policies.size() <= 1, "--model: one policy at a time; --policy names {}",
          options.policy.policies.size());
  require(options.backward_plan.empty(), "--model: give both plans to --plan, forward / backward");
  require(options.policy.record.empty(), "--record {}: flexmoe train records a model", options.policy.record);
  run_model_bench({.config = options.model,
                   .batch = options.batch,
                   .dtype = options.has_dtype ? parse_dtype(options.layer.dtype) : std::nullopt,
                   .trains = options.pass == "training",
                   .warmup = options.warmup,
                   .repeats = options.repeats,
                   .plans = {.plan = options.plan == "all" ? to_string(kDefaultPlan) : options.plan,
                             .policy = options.policy.policies.empty() ? "" : options.policy.policies.front(),
                             .cache = options.cache}},
                  options.machine, options.json);
}

void run(const Options& asked) {
  const Interrupt interrupt;
  if (!asked.model.empty()) return run_model(asked);
  require(asked.pass != "inference", "--pass inference is of a model; one layer's are forward and training");
  if (asked.suite == kMemorySuite) {
    return run_memory_bench(*parse_dtype(asked.layer.dtype), asked.machine.tf32,
                            parse_device(asked.machine.device), asked.json);
  }
  require(asked.policy.record.empty() || !asked.policy.policies.empty(),
          "--record {}: bench records the run of a policy; name one with --policy", asked.policy.record);
  if (!asked.policy.policies.empty()) {
    return run_policy_bench(asked.policy, asked.layer, asked.machine, asked.imbalance, asked.cache,
                            asked.json);
  }
  Options options = asked;
  if (!options.suite.empty()) options.machine.ranks = 1;  // a suite is of one rank
  std::optional<DeviceMemoryPeak> memory;                 // of what the ranks are about to take
  if (const Device device = options.machine.parsed_device(); device.is_cuda()) memory.emplace(device);
  options.machine.run("bench",
                      [&](Communicator& world) { run_rank(options, world, memory ? &*memory : nullptr); });
}

}  // namespace

void add_bench(CLI::App& app, Outcome&) {
  CLI::App* command = app.add_subcommand("bench", "Time one MoE layer under one plan or all of them");
  auto options = std::make_shared<Options>();
  add_layer_options(*command, options->layer);
  add_rank_options(*command, options->machine);
  add_policy_bench_options(*command, options->policy);
  command
      ->add_option(
          "--plan", options->plan,
          "A plan such as 'r1 d2 linear', all, or tuned: what flexmoe tune found; of a model one plan, "
          "r1 d1 linear for all")
      ->type_name("PLAN")
      ->capture_default_str();
  command
      ->add_option(
          "--cache", options->cache,
          "With --plan tuned, or --policy online, which begins with complete decisions: the tuning cache; "
          "otherwise FLEX_CACHE, or tuning.db in flexmoe's folder of the user's caches")
      ->type_name("FILE");
  command
      ->add_option("--backward-plan", options->backward_plan,
                   "Another plan of the same r for the backward pass (the same plan)")
      ->type_name("PLAN");
  command
      ->add_option(
          "--imbalance", options->imbalance,
          "Routing: none (as random tokens fall), hot_expert (one gets 8 times the mean) or half_empty; with "
          "--policy: W0 to W7 or drift, as in flexmoe trace generate")
      ->type_name("NAME")
      ->capture_default_str();
  command->add_flag("--graphs", options->graphs, "CUDA, one rank: replay passes as graphs where they can be");
  command
      ->add_option("--suite", options->suite,
                   "A named set of shapes instead of one: h200, memory, switching or profiling (none)")
      ->check(CLI::IsMember({"h200", "memory", "switching", "profiling"}));
  command->add_option("--model", options->model, "A model's .json file: time it instead of one layer")
      ->check(CLI::ExistingFile);
  command->add_option("--batch", options->batch, "With --model: images of a step (the configured number)")
      ->check(positive_number());
  command
      ->add_option(
          "--pass", options->pass,
          "training (forward and backward; of a model a whole step), forward of one layer, or inference "
          "of a model")
      ->check(CLI::IsMember({"forward", "training", "inference"}))
      ->capture_default_str();
  command->add_option("--warmup", options->warmup, "Passes before the timed ones")
      ->check(not_negative())
      ->capture_default_str();
  command->add_option("--repeats", options->repeats, "Timed passes of each plan")
      ->check(positive_number())
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print JSON");
  command->footer(
      "Examples:\n"
      "  flexmoe bench --ranks 4 --ranks-per-node 2 --experts 8 --tokens 512\n"
      "  flexmoe bench --ranks 4 --experts 8 --policy online --drift 4 --record run.jsonl.gz\n"
      "  flexmoe bench --model models/configs/swinv2_moe_micro.json --pass inference");
  command->callback([options, command] {
    options->has_dtype = command->count("--dtype") > 0;
    run(*options);
  });
}

}  // namespace flex::cli
