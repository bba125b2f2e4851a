#pragma once

#include "costmodel/cluster.h"

namespace flex {

/// A description that stands for the ranks of this job in a cost model: the built-in `cpu_host`, or
/// `one_h200` for ranks on a GPU, with the job's nodes and ranks. Other processors and GPUs differ from it in
/// their figures, which calibration can put right. On a CPU all ranks of a node share its `host_cores`.
[[nodiscard]] Cluster local_cluster(const Topology& topology, Device device, int host_cores);
/// With the cores of this host.
[[nodiscard]] Cluster local_cluster(const Topology& topology, Device device);

}  // namespace flex
