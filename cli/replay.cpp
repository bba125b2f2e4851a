#include "traces/replay/replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/atomic_file.h"
#include "base/require.h"
#include "cli/cluster_options.h"
#include "cli/commands.h"
#include "cli/progress.h"
#include "cli/replay_table.h"
#include "cli/trace_commands.h"
#include "runtime/local_cluster.h"
#include "traces/replay/plan_sequence.h"
#include "traces/replay/replay_json.h"
#include "tuner/cache.h"

// flexmoe replay run.jsonl.gz --cluster azure_ndv4_a100 --nodes 32 --policy all [--set k=2] [--compare
// "nodes=64"] Says what plans, machines and settings other than those of a recorded run would have brought.
namespace flex::cli {
namespace {

struct Options {
  std::string trace;
  ClusterOptions machine;
  std::vector<std::string> policies = {"all"};
  std::vector<std::string> changes;
  std::vector<std::string> compare;
  std::string cache;
  std::uint64_t memory_limit_bytes = 0;
  double noise = 0;
  double model_error = 0;
  std::uint64_t seed = 1;
  int jobs = 0;
  std::string timeline_policy;
  std::optional<std::int64_t> timeline_step;
  std::optional<std::int32_t> timeline_layer;
  std::string check_plans;
  std::string recorded_on = "cpu";
  std::string output;
  bool json = false;
};

IterationTrace read_trace(const std::string& file) {
  TraceReader reader(file, TraceDamage::kStop);
  IterationTrace trace = read_iterations(reader);
  warn_of_damage(reader);
  return trace;
}

std::vector<ReplayPolicy> policies_of(const Options& options, const IterationTrace& trace) {
  std::vector<ReplayPolicy> policies;
  for (const std::string& text : options.policies) {
    if (text == "all") {
      const std::vector<ReplayPolicy> all = all_replay_policies(trace);
      policies.insert(policies.end(), all.begin(), all.end());
    } else {
      policies.push_back(parse_replay_policy(text));
    }
  }
  return policies;
}

Scenario base_scenario(const Options& options) {
  Scenario base{.cluster = options.machine.cluster,
                .nodes = options.machine.nodes,
                .calibration = options.machine.calibration};
  for (const std::string& change : options.changes) set_change(base, change);
  return base;
}

std::vector<Scenario> scenarios_of(const Options& options) {
  std::vector<Scenario> scenarios = {base_scenario(options)};
  require(!scenarios.front().cluster.empty(),
          "--cluster says where the trace is replayed: a built-in cluster (flexmoe cluster list), or a file");
  for (const std::string& text : options.compare) {
    scenarios.push_back(compared_scenario(scenarios.front(), text));
  }
  return scenarios;
}

/// Reads the cache again for each cluster: several scenarios may ask at once.
std::function<CacheSnapshot(const Cluster&)> snapshots_of(const std::string& path) {
  if (path.empty()) return nullptr;
  return [path](const Cluster& cluster) {
    return TuningCache::open(path, {.mode = CacheMode::kRead}).snapshot(environment_of(cluster));
  };
}

ReplayOptions replay_options(const Options& options, const IterationTrace& trace) {
  ReplayOptions replay{.policies = policies_of(options, trace),
                       .noise = {.sigma = options.noise},
                       .model_error = options.model_error,
                       .seed = options.seed,
                       .snapshot_of = snapshots_of(options.cache),
                       .timeline = {.step = options.timeline_step, .layer = options.timeline_layer},
                       .num_workers = options.jobs};
  if (!options.timeline_policy.empty()) replay.timeline.policy = parse_replay_policy(options.timeline_policy);
  if (options.memory_limit_bytes > 0) {
    replay.memory_limit_bytes = static_cast<std::int64_t>(options.memory_limit_bytes);
  }
  if (options.jobs == 0)
    replay.num_workers = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  return replay;
}

/// Progress counts in int; a replay may have more steps than that.
void show(Progress& progress, std::int64_t done, std::int64_t total) {
  const std::int64_t divisor = total / std::numeric_limits<int>::max() + 1;
  progress.update(static_cast<int>(done / divisor), static_cast<int>(total / divisor));
}

/// What the policies of the recorded run had of their cluster: that of --cluster, or, without one, what a run
/// on this host describes its ranks by.
ScenarioMachine recorded_machine(const Options& options, const TraceHeader& header) {
  const Scenario scenario = base_scenario(options);
  if (!scenario.cluster.empty()) {
    ScenarioMachine machine = machine_of(scenario, header.world);
    require(machine.cluster.world() == header.world,
            "--check-plans: the run had {} ranks, the cluster has {}; take its own", header.world,
            machine.cluster.world());
    return machine;
  }
  const Device device = options.recorded_on == "gpu" ? Device::cuda(0) : Device::cpu();
  ScenarioMachine machine{
      .cluster = local_cluster({.world = header.world, .ranks_per_node = header.ranks_per_node}, device)};
  machine.calibration = calibration_of(machine.cluster);
  return machine;
}

/// Whether a policy that is told what the run measured chooses what the run chose.
void check_plans(const Options& options, Outcome& outcome) {
  constexpr int kFailed = 1;
  const IterationTrace trace = read_trace(options.trace);
  const ReplayOptions replay = replay_options(options, trace);
  const ScenarioMachine machine = recorded_machine(options, trace.header);
  const CostModel model(machine.cluster, machine.calibration.parameters);
  std::optional<CacheSnapshot> snapshot;
  if (replay.snapshot_of) snapshot = replay.snapshot_of(machine.cluster);
  const auto policy = make_policy(
      parse_policy(options.check_plans),
      replay_context(machine.cluster, model, trace.passes(), snapshot ? &*snapshot : nullptr, replay));
  const PlanSequenceCheck check = check_plan_sequence(trace, *policy);
  require(check.num_compared > 0, "--check-plans: {} does not say which plans ran", options.trace);
  fmt::print("{} of {} iterations ran what {} chooses\n", check.num_equal, check.num_compared,
             options.check_plans);
  if (!check.first) return;
  fmt::print("first other one: step {}, layer {}: ran {}, chooses {}\n", check.first->step,
             check.first->layer, to_string(check.first->recorded), to_string(check.first->chosen));
  outcome.exit_code = kFailed;
}

void write_document(const std::string& path, const std::string& document) {
  AtomicFile file(path);
  file.write(document);
  file.write("\n");
  file.commit();
}

void run(const Options& options, Outcome& outcome) {
  if (!options.check_plans.empty()) return check_plans(options, outcome);
  const std::vector<Scenario> scenarios = scenarios_of(options);
  const IterationTrace trace = read_trace(options.trace);
  ReplayOptions replay_with = replay_options(options, trace);
  std::vector<ScenarioResult> results;
  {
    Progress progress("replay");
    replay_with.progress = [&](std::int64_t done, std::int64_t total) { show(progress, done, total); };
    results = replay(trace, scenarios, replay_with);
  }
  if (options.json || !options.output.empty()) {
    const std::string document = replay_json(options.trace, trace, results, replay_with).dump();
    if (!options.output.empty()) write_document(options.output, document);
    if (options.json) return fmt::print("{}\n", document);
  }
  fmt::print("{}", trace_text(options.trace, trace));
  for (const ScenarioResult& result : results) fmt::print("\n{}", scenario_text(result));
  if (results.size() > 1) fmt::print("\n{}", comparison_text(results));
  if (!options.output.empty()) fmt::print("\nwritten to {}\n", options.output);
}

void add_policy_options(CLI::App& command, Options& options) {
  command
      .add_option("--policy", options.policies,
                  "static:PLAN, best-static, dictionary, model, online, oracle, recorded, or all; several "
                  "with commas. "
                  "The default plan always runs")
      ->delimiter(',')
      ->capture_default_str();
  command
      .add_option("--cache", options.cache, "A tuning cache that policies look plans up in (otherwise none)")
      ->check(CLI::ExistingFile);
  command
      .add_option("--memory-limit", options.memory_limit_bytes,
                  "Plans whose layer needs more on a rank do not run, e.g. 4GiB (0: no limit)")
      ->transform(CLI::AsSizeValue(false));
  command
      .add_option("--noise", options.noise,
                  "Policies see durations times a random factor: sigma of its logarithm, e.g. 0.05")
      ->check(CLI::Range(0.0, 2.0))
      ->capture_default_str();
  command
      .add_option(
          "--model-error", options.model_error,
          "Policies have another model than times come from: sigma of a factor on each parameter, e.g. 0.15")
      ->check(CLI::Range(0.0, 2.0))
      ->capture_default_str();
  command.add_option("--seed", options.seed, "Of noise, model error and resampling")->capture_default_str();
  CLI::Option* check = command.add_option(
      "--check-plans", options.check_plans,
      "Only say whether this policy, told what the run measured, chooses the plans that ran (exit 1: no). "
      "Without --cluster: of a run on this host");
  command
      .add_option("--recorded-on", options.recorded_on,
                  "With --check-plans and no --cluster: what the ranks ran on, cpu or gpu")
      ->check(CLI::IsMember({"cpu", "gpu"}))
      ->needs(check)
      ->capture_default_str();
}

void add_timeline_options(CLI::App& command, Options& options) {
  command.add_option("--timeline-policy", options.timeline_policy,
                     "Of the timeline in the JSON: this policy (online, or the last)");
  command.add_option("--timeline-step", options.timeline_step, "This step (that of the slowest iteration)");
  command.add_option("--timeline-layer", options.timeline_layer, "This layer");
}

}  // namespace

void add_replay(CLI::App& app, Outcome& outcome) {
  CLI::App* command = app.add_subcommand(
      "replay", "Ask of a routing trace what other plans, machines or settings would have brought");
  auto options = std::make_shared<Options>();
  command->add_option("trace", options->trace, "A trace; see flexmoe trace")->required();
  add_cluster_options(*command, options->machine)
      .nodes->description("Nodes (as many as hold the trace's ranks)");
  command
      ->add_option("--set", options->changes, "Change the scenario, KEY=VALUE; see below. Several may follow")
      ->allow_extra_args()
      ->type_name("KEY=VALUE");
  command
      ->add_option(
          "--compare", options->compare,
          "Replay a second time with these changes, 'KEY=VALUE KEY=VALUE ...', and set both side by side. "
          "May be given several times")
      ->allow_extra_args(false)
      ->type_name("'CHANGES'");
  add_policy_options(*command, *options);
  command->add_option("--jobs", options->jobs, "Threads (0: as many as there are cores)")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  add_timeline_options(*command, *options);
  command->add_option("-o,--output", options->output, "Write the results to this file, for flexmoe report");
  command->add_flag("--json", options->json, "Print JSON");
  command->footer("Changes:" + describe_changes() +
                  "\nExamples:\n"
                  "  flexmoe replay run.jsonl.gz --cluster azure_ndv4_a100 --policy all\n"
                  "  flexmoe replay run.jsonl.gz --cluster dgx_h100 --nodes 64 --policy online,'static:r1 d4 "
                  "2dh' --noise 0.05\n"
                  "  flexmoe replay run.jsonl.gz --cluster dgx_h100 --set k=2 capacity_factor=1.0 --compare "
                  "'inter_node_bandwidth=0.5x' -o what_if.json");
  command->callback([options, &outcome] { run(*options, outcome); });
}

}  // namespace flex::cli
