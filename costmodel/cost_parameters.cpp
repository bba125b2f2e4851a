#include "costmodel/cost_parameters.h"

#include <algorithm>

#include "costmodel/embedded_clusters.h"

namespace flex {

Calibration calibration_of(const Cluster& cluster) {
  const auto found = std::ranges::find(embedded_calibrations(), cluster.name, &EmbeddedFile::name);
  if (found == embedded_calibrations().end()) return default_calibration(cluster);
  return parse_calibration(found->json, std::string(found->name) + " (calibration)");
}

std::vector<std::string> builtin_calibrations() {
  std::vector<std::string> names;
  for (const EmbeddedFile& file : embedded_calibrations()) names.emplace_back(file.name);
  return names;
}

Calibration default_calibration(const Cluster& cluster) {
  Calibration calibration{.cluster = cluster.name,
                          .description = "Generic parameters, compared with no measurement",
                          .source = "not fitted: generic"};
  CostParameters& p = calibration.parameters;
  p.linear = p.hierarchical = {.compute = 1.2, .communication = 1.2};
  if (cluster.device.kind == DeviceKind::kCuda) {
    p.compute.launch_us = std::max(p.compute.launch_us, cluster.device.kernel_launch_us);
    p.intra_node.message_us = cluster.intra_node.latency_us + 1;
    p.inter_node.message_us = cluster.inter_node.latency_us + 4;
    p.base_memory_GiB = 1;
    return calibration;
  }
  // Tasks are handed to threads, which must wake up. One core does not draw on all memory channels, and ranks
  // that share cores slow each other down as much as they overlap.
  p.compute.launch_us = 10;
  p.compute.memory_efficiency = 0.05;
  p.compute.strided_copy_efficiency = 0.03;
  p.intra_node.bandwidth_efficiency = p.inter_node.bandwidth_efficiency = 0.05;  // nodes may be of one host
  p.intra_node.message_us = 2;
  p.inter_node.message_us = cluster.inter_node.latency_us + 2;
  p.host_synchronize_us = 10;
  p.linear = p.hierarchical = {.compute = 1.5, .communication = 1.5};
  return calibration;
}

}  // namespace flex
