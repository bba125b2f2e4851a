#pragma once

#include "costmodel/topology.h"

namespace flex {

/// The machines that a schedule is built for.
struct Cluster {
  int nodes = 1;
  int ranks_per_node = 1;

  [[nodiscard]] constexpr int world() const { return nodes * ranks_per_node; }
  [[nodiscard]] constexpr Topology topology() const { return {world(), ranks_per_node}; }
};

/// The cluster of a running job. @throws InputError if the ranks do not fill whole nodes.
[[nodiscard]] Cluster cluster_of(const Topology& topology);

}  // namespace flex
