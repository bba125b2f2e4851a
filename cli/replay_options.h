#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/cluster_options.h"
#include "traces/replay/replay.h"

/// The options of `flexmoe replay`.
namespace flex::cli {

/// What `flexmoe replay` is called with.
struct ReplayCommand {
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

/// All but the trace and what is written.
void add_replay_options(CLI::App& command, ReplayCommand& options);

/// What --cluster, --nodes, --calibration and --set say; its cluster may be empty. @throws InputError.
[[nodiscard]] Scenario base_scenario(const ReplayCommand& options);
/// The base and what it is compared with. @throws InputError, also without a cluster.
[[nodiscard]] std::vector<Scenario> scenarios_of(const ReplayCommand& options);
/// @throws InputError for a policy that is none.
[[nodiscard]] ReplayOptions replay_options(const ReplayCommand& options, const IterationTrace& trace);

}  // namespace flex::cli
