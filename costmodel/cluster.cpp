#include "costmodel/cluster.h"

#include <algorithm>

#include "base/require.h"

namespace flex {

Cluster cluster_of(const Topology& topology) {
  require(
      topology.world >= 1 && topology.ranks_per_node >= 1 && topology.world % topology.ranks_per_node == 0,
      "{} ranks do not fill nodes of {}; use a number of ranks per node that divides them", topology.world,
      topology.ranks_per_node);
  return {.nodes = topology.world / topology.ranks_per_node, .ranks_per_node = topology.ranks_per_node};
}

}  // namespace flex
