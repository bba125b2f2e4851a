#include "runtime/local_cluster.h"

#include <thread>

#include "costmodel/cluster_description.h"

namespace flex {

Cluster local_cluster(const Topology& topology, Device device, int host_cores) {
  const Cluster running = cluster_of(topology);
  Cluster cluster = load_cluster(device.is_cuda() ? "one_h200" : "cpu_host");
  cluster.nodes = running.nodes;
  cluster.ranks_per_node = cluster.ranks_per_device = running.ranks_per_node;
  if (!device.is_cuda()) cluster.host_cores = host_cores;
  // Nodes of one host share its memory; of the network between hosts nothing is known here.
  if (cluster.nodes > 1 && cluster.inter_node.bandwidth_GBps == 0) {
    cluster.inter_node = cluster.intra_node;
    cluster.nics_per_node = 1;
  }
  return cluster;
}

Cluster local_cluster(const Topology& topology, Device device) {
  return local_cluster(topology, device, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace flex
