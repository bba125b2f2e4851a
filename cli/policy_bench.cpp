#include "cli/policy_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/require.h"
#include "cli/checks.h"
#include "cli/cluster_options.h"
#include "cli/progress.h"
#include "cli/recording.h"
#include "cli/run_cache.h"
#include "cli/table.h"
#include "costmodel/cost_model.h"
#include "costmodel/layer_memory.h"
#include "runtime/local_cluster.h"
#include "runtime/policy_benchmark.h"
#include "traces/imbalance_workload.h"
#include "tuner/online_policy.h"
#include "tuner/policy.h"

namespace flex::cli {
namespace {

/// `context` and what it points to must live as long as the policies that are made.
ComparedPolicy compared(const PolicySpec& spec, const PolicyContext& context) {
  ComparedPolicy policy{.name = to_string(spec),
                        .make = [spec, &context] { return make_policy(spec, context); }};
  if (spec.kind == PolicyKind::kOnline) {
    policy.num_explored = [](const PlanPolicy& made) {
      return dynamic_cast<const OnlinePolicy&>(made).statistics().explored_iterations;
    };
  }
  return policy;
}

std::string plans_text(const PolicyRun& run) {
  constexpr std::size_t kMostShown = 3;
  std::string text;
  for (std::size_t i = 0; i < std::min(run.plans.size(), kMostShown); ++i) {
    text +=
        fmt::format("{}{} ({})", i == 0 ? "" : ", ", to_string(run.plans[i].plans), run.plans[i].iterations);
  }
  if (run.plans.size() > kMostShown) text += fmt::format(", {} more", run.plans.size() - kMostShown);
  return text;
}

nlohmann::ordered_json json_of(const PolicyRun& run) {
  nlohmann::ordered_json json = {
      {"policy", run.name}, {"total_us", run.total_us}, {"plan_changes", run.num_changes}};
  if (run.num_explored) json["explored_iterations"] = *run.num_explored;
  for (const PolicyRun::Use& use : run.plans) {
    json["plans"].push_back({{"forward", to_string(use.plans.forward)},
                             {"backward", to_string(use.plans.backward)},
                             {"iterations", use.iterations}});
  }
  return json;
}

/// The job and its result, for rank 0 to print.
struct Compared {
  int world = 1;
  std::string ranks_text;
  std::string routing;  ///< how it moves
  PolicyComparison comparison;
};

void print_table(const PolicyBenchOptions& options, const LayerOptions& layer, const Compared& compared) {
  const PolicyComparison& comparison = compared.comparison;
  const double best_us = std::ranges::min(comparison.runs, {}, &PolicyRun::total_us).total_us;
  Table table({{"policy", Align::kLeft},
               {"total"},
               {"over the best"},
               {"explored"},
               {"changes"},
               {"plans (iterations)", Align::kLeft}});
  for (const PolicyRun& run : comparison.runs) {
    table.add({run.name, format_us(run.total_us), fmt::format("{:.1f}%", 100 * (run.total_us / best_us - 1)),
               run.num_explored ? fmt::format("{}", *run.num_explored) : "-",
               fmt::format("{}", run.num_changes), plans_text(run)});
  }
  fmt::print("{}\n{}, {} training iterations of each policy in turns, dropless, {}, capacity {} to {}\n\n{}",
             layer.text(), compared.ranks_text, options.iterations, compared.routing,
             comparison.least_capacity, comparison.largest_capacity, table.text());
}

void print(const PolicyBenchOptions& options, const LayerOptions& layer, const Compared& compared,
           bool as_json) {
  if (!as_json) return print_table(options, layer, compared);
  nlohmann::ordered_json json = layer.json();
  json.update({{"ranks", compared.world},
               {"communicator", compared.ranks_text},
               {"iterations", options.iterations},
               {"routing", compared.routing},
               {"least_capacity", compared.comparison.least_capacity},
               {"largest_capacity", compared.comparison.largest_capacity}});
  for (const PolicyRun& run : compared.comparison.runs) json["policies"].push_back(json_of(run));
  fmt::print("{}\n", json.dump(2));
}

}  // namespace

void add_policy_bench_options(CLI::App& command, PolicyBenchOptions& options) {
  command
      .add_option("--policy", options.policies,
                  "Policies that choose the plans of one training run each, compared with each other: "
                  "'static:PLAN', dictionary, model, online; separated by commas (none: one --plan, or all)")
      ->type_name("POLICY")
      ->delimiter(',');
  command.add_option("--steps,--iterations", options.iterations, "With --policy: training iterations")
      ->check(positive_number())
      ->capture_default_str();
  command.add_option("--drift", options.drift,
                     "With --policy, and no --imbalance: by what factor the needed capacity grows, and falls "
                     "again (2)");
  add_memory_limit(command, options.memory_limit_bytes,
                   "With --policy: plans whose layer needs more on a rank do not run");
  command
      .add_option("--record", options.record,
                  "With one --policy: write the routing, plans and times of its run to this routing trace "
                  "(.jsonl, or .jsonl.gz to pack it)")
      ->type_name("FILE");
}

void run_policy_bench(const PolicyBenchOptions& options, const LayerOptions& asked,
                      const RankOptions& machine, const std::string& imbalance, const std::string& cache,
                      bool json) {
  LayerOptions layer = asked;
  layer.capacity_factor = 0;  // dropless: the capacity follows the routing
  std::vector<PolicySpec> specs;
  for (const std::string& text : options.policies) specs.push_back(parse_policy(text));
  require(options.record.empty() || specs.size() == 1,
          "--record {}: one file holds the run of one policy; --policy names {}", options.record,
          specs.size());
  const std::optional<ImbalanceWorkload> named = parse_imbalance_workload(imbalance);
  require(
      named || imbalance == "none",
      "--imbalance {}: with --policy it is none, W0 to W7 or drift (flexmoe trace generate --help has them)",
      imbalance);
  const PolicyBenchmark benchmark{.config = layer.config(),
                                  .num_tokens = layer.tokens,
                                  .top_k = layer.top_k,
                                  .iterations = options.iterations,
                                  .imbalance = named,
                                  .drift = options.drift.value_or(named ? 1 : 2)};
  machine.run("bench", [&](Communicator& world) {
    RankContext context(world, machine.usable_device(benchmark.config.dtype), {.allow_tf32 = machine.tf32});
    const Cluster cluster = local_cluster(world.counters().topology(), context.device());
    const CostModel costs = cost_model_of(cluster);
    const CacheSnapshot snapshot = snapshot_for_run(cache, context, cluster, false);
    const MemoryLimit limit{.bytes = static_cast<std::int64_t>(options.memory_limit_bytes)};
    const PolicyContext chosen_by{.cluster = cluster,
                                  .costs = &costs,
                                  .snapshot = &snapshot,
                                  .environment = snapshot.environment(),
                                  .speaks = context.rank() == 0,
                                  .may_run = [&](const LayerLoad& load, const Plan& plan) {
                                    return limit.allows(load.workload, plan);
                                  }};
    std::vector<ComparedPolicy> policies;
    for (const PolicySpec& spec : specs) policies.push_back(compared(spec, chosen_by));
    std::optional<TraceRecorder> recorder;
    if (!options.record.empty()) {
      const TraceLayer recorded =
          trace_layer_of(benchmark.config, forward_call_of(benchmark), benchmark.num_tokens, world.size());
      recorder.emplace(options.record,
                       recorded_header(fmt::format("flexmoe bench --policy {}", to_string(specs.front())),
                                       {recorded}, context),
                       context);
    }
    Compared result{.world = world.size(),
                    .ranks_text = world.description(),
                    .routing = named ? fmt::format("routing {}", name(*named))
                                     : fmt::format("routing that drifts by {}", benchmark.drift)};
    {
      Progress progress("bench");
      result.comparison = compare_policies(
          benchmark, policies, context, [&](int done, int total) { progress.update(done, total); },
          recorder ? &*recorder : nullptr);
    }
    if (world.rank() == 0) print(options, layer, result, json);
    if (recorder) end_recording(*recorder, options.record);
  });
}

}  // namespace flex::cli
