#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "costmodel/cost_parameters.h"
#include "kernels/dtype.h"
#include "traces/replay/iteration_trace.h"
#include "traces/reshard.h"

namespace flex {

/// Where and how a trace is replayed: a cluster, and what is other than in the trace. What is empty stays as
/// it was recorded.
struct Scenario {
  std::string name = "base";
  std::string cluster;                    ///< a built-in one, or a file
  std::optional<int> nodes;               ///< otherwise as many as hold the trace's ranks
  std::string calibration;                ///< a file of fitted parameters; empty: the cluster's own
  double intra_node_bandwidth = 1;        ///< factor on the cluster's
  double inter_node_bandwidth = 1;        ///< the same between nodes
  std::optional<std::int64_t> top_k;      ///< k of all layers
  std::optional<double> capacity_factor;  ///< f of all layers
  std::optional<DType> dtype;
  std::optional<std::int64_t> hidden_dim;         ///< H of a whole expert
  ReshardPolicy reshard = ReshardPolicy::kSplit;  ///< where the cluster has other ranks than the trace
  std::vector<std::string> changes;               ///< those that were set, as `key=value`
};

/// Sets one thing: `k=2`, `capacity_factor=1.0`, `dtype=bf16`, `hidden_dim=8192`, `cluster=dgx_h100`,
/// `nodes=64`, `intra_node_bandwidth=2x`, `inter_node_bandwidth=0.5x`, `reshard=tile`. A key that was set
/// before is set anew; another cluster comes with its own calibration.
/// @throws InputError naming what is wrong and what would be right.
void set_change(Scenario& scenario, std::string_view text);

/// `base` with the changes of a text, which is its name: `nodes=64 k=1`, separated by blanks.
/// @throws InputError as set_change(), or if there are none.
[[nodiscard]] Scenario compared_scenario(const Scenario& base, std::string_view text);

/// The keys of set_change() with a line on each, for a help text.
[[nodiscard]] std::string describe_changes();

/// The machines of a scenario.
struct ScenarioMachine {
  Cluster cluster;          ///< with the scenario's link speeds
  Calibration calibration;  ///< of the cluster as it is described
};

/// @param trace_world ranks of the trace, for a scenario without a number of nodes
/// @throws InputError, FileError as load_cluster() and read_calibration_file().
[[nodiscard]] ScenarioMachine machine_of(const Scenario& scenario, int trace_world);

}  // namespace flex
