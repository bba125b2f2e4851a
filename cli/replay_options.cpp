#include "cli/replay_options.h"

#include <algorithm>
#include <functional>
#include <thread>

#include "base/require.h"
#include "tuner/cache.h"

namespace flex::cli {
namespace {

std::vector<ReplayPolicy> policies_of(const ReplayCommand& options, const IterationTrace& trace) {
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

/// Reads the cache again for each cluster: several scenarios may ask at once.
std::function<CacheSnapshot(const Cluster&)> snapshots_of(const std::string& path) {
  if (path.empty()) return nullptr;
  return [path](const Cluster& cluster) {
    return TuningCache::open(path, {.mode = CacheMode::kRead}).snapshot(environment_of(cluster));
  };
}

void add_policy_options(CLI::App& command, ReplayCommand& options) {
  command
      .add_option("--policy", options.policies,
                  "static:PLAN, best-static, dictionary, model, online, oracle, recorded, or all; several "
                  "with commas. The default plan always runs")
      ->type_name("POLICY")
      ->delimiter(',')
      ->capture_default_str();
  command
      .add_option("--cache", options.cache, "A tuning cache that policies look plans up in (otherwise none)")
      ->check(CLI::ExistingFile);
  add_memory_limit(command, options.memory_limit_bytes, "Plans whose layer needs more on a rank do not run");
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
  CLI::Option* check = command
                           .add_option("--check-plans", options.check_plans,
                                       "Only say whether this policy, told what the run measured, chooses "
                                       "the plans that ran (exit 1: no). "
                                       "Without --cluster: of a run on this host")
                           ->type_name("POLICY");
  command
      .add_option("--recorded-on", options.recorded_on,
                  "With --check-plans and no --cluster: what the ranks ran on, cpu or gpu")
      ->check(CLI::IsMember({"cpu", "gpu"}))
      ->needs(check)
      ->capture_default_str();
}

void add_timeline_options(CLI::App& command, ReplayCommand& options) {
  command
      .add_option("--timeline-policy", options.timeline_policy,
                  "Of the timeline in the JSON: this policy (online, or the last)")
      ->type_name("POLICY");
  command.add_option("--timeline-step", options.timeline_step, "This step (that of the slowest iteration)");
  command.add_option("--timeline-layer", options.timeline_layer,
                     "This layer (that of the slowest iteration)");
}

}  // namespace

Scenario base_scenario(const ReplayCommand& options) {
  Scenario base{.cluster = options.machine.cluster,
                .nodes = options.machine.nodes,
                .calibration = options.machine.calibration};
  for (const std::string& change : options.changes) set_change(base, change);
  return base;
}

std::vector<Scenario> scenarios_of(const ReplayCommand& options) {
  std::vector<Scenario> scenarios = {base_scenario(options)};
  require(!scenarios.front().cluster.empty(),
          "--cluster says where the trace is replayed: a built-in cluster (flexmoe cluster list), or a file");
  for (const std::string& text : options.compare) {
    scenarios.push_back(compared_scenario(scenarios.front(), text));
  }
  return scenarios;
}

ReplayOptions replay_options(const ReplayCommand& options, const IterationTrace& trace) {
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

void add_replay_options(CLI::App& command, ReplayCommand& options) {
  add_cluster_options(command, options.machine)
      .nodes->description("Nodes (as many as hold the trace's ranks)");
  command
      .add_option("--set", options.changes, "Change the scenario, KEY=VALUE; see below. Several may follow")
      ->allow_extra_args()
      ->type_name("KEY=VALUE");
  command
      .add_option(
          "--compare", options.compare,
          "Replay a second time with these changes, 'KEY=VALUE KEY=VALUE ...', and set both side by side. "
          "May be given several times")
      ->allow_extra_args(false)
      ->type_name("'CHANGES'");
  add_policy_options(command, options);
  command.add_option("--jobs", options.jobs, "Threads (0: as many as there are cores)")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  add_timeline_options(command, options);
}

}  // namespace flex::cli
