
#include <fmt/format.h>

#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "base/require.h"
#include "cli/checks.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/replay_options.h"
#include "cli/replay_table.h"
#include "cli/trace_commands.h"
#include "runtime/local_cluster.h"
#include "traces/replay/plan_sequence.h"
#include "traces/replay/replay_json.h"

// flexmoe replay run.jsonl.gz --cluster azure_ndv4_a100 --nodes 32 --policy all [--set k=2] [--compare
// "nodes=64"] Says what plans, machines and settings other than those of a recorded run would have brought.
namespace flex::cli {
namespace {

IterationTrace read_trace(const std::string& file) {
  TraceReader reader(file, TraceDamage::kStop);
  IterationTrace trace = read_iterations(reader);
  warn_of_damage(reader);
  return trace;
}

/// Progress counts in int; a replay may have more steps than that.
void show(Progress& progress, std::int64_t done, std::int64_t total) {
  const std::int64_t divisor = total / std::numeric_limits<int>::max() + 1;
  progress.update(static_cast<int>(done / divisor), static_cast<int>(total / divisor));
}

/// What the policies of the recorded run had of their cluster: that of --cluster, or, without one, what a run
/// on this host describes its ranks by.
ScenarioMachine recorded_machine(const ReplayCommand& options, const TraceHeader& header) {
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

nlohmann::ordered_json to_json(const PlanSequenceCheck& check, const std::string& policy) {
  nlohmann::ordered_json json = {
      {"policy", policy}, {"compared", check.num_compared}, {"equal", check.num_equal}};
  if (check.first) {
    json["first_other"] = {{"step", check.first->step},
                           {"layer", check.first->layer},
                           {"recorded", to_string(check.first->recorded)},
                           {"chosen", to_string(check.first->chosen)}};
  }
  return json;
}

/// Whether a policy that is told what the run measured chooses what the run chose.
void check_plans(const ReplayCommand& options, Outcome& outcome) {
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
  if (check.first) outcome.exit_code = kFailed;
  if (options.json) return fmt::print("{}\n", to_json(check, options.check_plans).dump(2));
  fmt::print("{} of {} iterations ran what {} chooses\n", check.num_equal, check.num_compared,
             options.check_plans);
  if (!check.first) return;
  fmt::print("first other one: step {}, layer {}: ran {}, chooses {}\n", check.first->step,
             check.first->layer, to_string(check.first->recorded), to_string(check.first->chosen));
}

void write_document(const std::string& path, const std::string& document) {
  AtomicFile file(path);
  file.write(document);
  file.write("\n");
  file.commit();
}

void run(const ReplayCommand& options, Outcome& outcome) {
  if (!options.check_plans.empty()) return check_plans(options, outcome);
  const std::vector<Scenario> scenarios = scenarios_of(options);
  const IterationTrace trace = read_trace(options.trace);
  ReplayOptions replay_with = replay_options(options, trace);
  require_writable(options.output);
  std::vector<ScenarioResult> results;
  {
    const Interrupt interrupt;
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

}  // namespace

void add_replay(CLI::App& app, Outcome& outcome) {
  CLI::App* command = app.add_subcommand(
      "replay", "Ask of a routing trace what other plans, machines or settings would have brought");
  auto options = std::make_shared<ReplayCommand>();
  command->add_option("trace", options->trace, "A trace; see flexmoe trace")->required()->type_name("FILE");
  add_replay_options(*command, *options);
  command->add_option("-o,--output", options->output, "Write the results to this file, for flexmoe report")
      ->type_name("FILE");
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
