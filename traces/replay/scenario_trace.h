#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "costmodel/cluster.h"
#include "costmodel/layer_load.h"
#include "traces/replay/iteration_trace.h"
#include "traces/replay/scenario.h"

namespace flex {

/// All that the time of a pass depends on but its plan. Iterations with equal ones share one.
struct ReplayLoad {
  std::int32_t layer = 0;  ///< of the first iteration that had it
  LayerLoad load;
  /// Where times depend on them: dropless routing, or ranks with different numbers of tokens. Otherwise
  /// empty: all ranks are alike.
  SparseCounts counts;
  bool has_even_tokens = true;  ///< all ranks have T tokens, so that only counted experts see the counts
};

/// One iteration of one layer in a scenario.
struct ReplayIteration {
  std::int64_t step = 0;
  std::int32_t layer = 0;
  bool has_backward = false;
  std::int32_t load = 0;                   ///< index into loads
  std::int64_t needed_capacity = 0;        ///< the largest count of an expert on a source rank
  double max_over_mean = 1;                ///< of the experts' choices, before drops
  std::int64_t num_choices = 0;            ///< of all ranks
  std::int64_t num_dropped = 0;            ///< of them: beyond the capacity of their expert and source rank
  std::optional<PlanPair> recorded;        ///< that ran, if it is known
  std::optional<std::int64_t> forward_ns;  ///< that were measured when the trace was recorded
  std::optional<std::int64_t> backward_ns;
};

/// Choices by layer, bin of steps and group of neighbouring experts: bounded, whatever the trace.
struct ExpertLoadMap {
  static constexpr std::int64_t kMaxLayers = 16;
  static constexpr std::int64_t kMaxBins = 64;
  static constexpr std::int64_t kMaxCells = 64;
  std::vector<std::int32_t> layers;      ///< evenly picked
  std::vector<std::int64_t> first_step;  ///< by bin
  std::int64_t steps_per_bin = 1;        ///< steps that have records; the last bin may have fewer
  std::int64_t experts_per_cell = 1;
  std::vector<std::vector<std::vector<std::int64_t>>> choices;  ///< (layers, bins, cells)
};

/// A trace as a scenario has it: laid on its ranks, with its k, f, sizes.
struct ScenarioTrace {
  TraceHeader header;
  Passes passes = Passes::kBoth;
  std::optional<ReshardPolicy> reshard;     ///< if it was laid on other ranks
  std::vector<ReplayIteration> iterations;  ///< in the order of the trace
  std::vector<ReplayLoad> loads;
  std::vector<std::int64_t> steps;  ///< that have iterations, ascending
  ExpertLoadMap expert_load;
};

/// Lays `trace` on the ranks of `cluster` (Resharder, if they are not as many) and changes what the scenario
/// changes. Capacities are expert_capacity() of the new counts. `seed`: of a resampling.
/// @throws InputError for a scenario that the trace cannot be brought to: experts that do not spread over the
/// ranks, a hidden_dim that they cannot share, a k above the experts.
[[nodiscard]] ScenarioTrace scenario_trace(const IterationTrace& trace, const Scenario& scenario,
                                           const Cluster& cluster, std::uint64_t seed);

/// The load of one forward pass of `layer`, as the runtime's layer knows it at the agreement: T is the
/// largest number of tokens of a rank, C is expert_capacity(), max_over_mean is that of what is kept of the
/// counts.
/// @throws InputError for a capacity that no memory holds.
[[nodiscard]] LayerLoad replay_load(const TraceLayer& layer, const SparseCounts& counts);

/// Choices beyond `capacity` slots of their expert and source rank.
[[nodiscard]] std::int64_t num_dropped(const SparseCounts& counts, std::int64_t capacity);

}  // namespace flex
