#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "costmodel/cost_model.h"
#include "traces/replay/policy_result.h"
#include "traces/replay/timeline.h"
#include "tuner/cache_snapshot.h"
#include "tuner/online_settings.h"

/// Asks of a recorded trace what other plans, machines or layers would have brought: every iteration through
/// the simulator, with the policies of the runtime in the loop. docs/replay.md tells how.
namespace flex {

struct ReplayOptions {
  std::vector<ReplayPolicy> policies;  ///< the default plan's is put first where it is not there
  ObservationNoise noise{};            ///< its seed is `seed`
  /// Sigma of the logarithm of a factor on each parameter of the model that policies choose by; 0: they have
  /// the model that times come from.
  double model_error = 0;
  std::uint64_t seed = 0;
  /// Plans whose layer needs more on a rank do not run, the default plan excepted.
  std::optional<std::int64_t> memory_limit_bytes;
  OnlineSettings online{};
  /// What a tuning cache knows of a cluster; null: no cache.
  std::function<CacheSnapshot(const Cluster&)> snapshot_of;
  TimelineChoice timeline{};
  int num_workers = 1;  ///< threads. Results are the same, whatever their number
  /// Called now and then, from any thread but one at a time.
  std::function<void(std::int64_t done, std::int64_t total)> progress;
};

/// A trace in one scenario.
struct ScenarioResult {
  Scenario scenario;
  ScenarioMachine machine;
  ScenarioTrace trace;
  std::vector<PolicyResult> policies;  ///< the default plan first, then as they were asked for
  std::int64_t num_choices = 0;        ///< of all iterations and ranks
  std::int64_t num_dropped = 0;        ///< of them; plans do not change it
  std::optional<Timeline> timeline;
};

/// Replays `trace` in every scenario under every policy. A pure function of its arguments but for
/// `num_workers` and `progress`: equal input gives equal bits.
///
/// The oracle and best-static need the duration of every plan at every load that is not like another one: by
/// far the most of the work where experts are counted and loads many.
/// @throws InputError for a scenario that cannot be, naming it, or a policy that lacks what it needs.
[[nodiscard]] std::vector<ScenarioResult> replay(const IterationTrace& trace,
                                                 std::span<const Scenario> scenarios,
                                                 const ReplayOptions& options);

/// What a policy of a scenario chooses by. What it points to must live as long as the context.
[[nodiscard]] PolicyContext replay_context(const Cluster& cluster, const CostModel& model, Passes passes,
                                           const CacheSnapshot* snapshot, const ReplayOptions& options);

}  // namespace flex
