#include "costmodel/calibration_unknowns.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "costmodel/cost_parameter_fields.h"

namespace flex {

const char* key_of(Unknown unknown) {
  static constexpr std::array<const char*, kNumUnknowns> kKeys = {
      "compute.launch_us",         "compute.matrix_efficiency",       "compute.half_efficiency_rows",
      "compute.memory_efficiency", "compute.strided_copy_efficiency", "intra_node.collective_us",
      "intra_node.message_us",     "intra_node.bandwidth_efficiency", "inter_node.collective_us",
      "inter_node.message_us",     "inter_node.bandwidth_efficiency", "inter_node.contention_peers",
      "host.synchronize_us"};
  return kKeys[static_cast<std::size_t>(unknown)];
}

Eigen::VectorXd to_unknowns(const CostParameters& p) {
  Eigen::VectorXd x(kNumUnknowns);
  const double inter_bytes = 1 / p.inter_node.bandwidth_efficiency;
  x << p.compute.launch_us, 1 / p.compute.matrix_efficiency,
      p.compute.half_efficiency_rows / p.compute.matrix_efficiency, 1 / p.compute.memory_efficiency,
      1 / p.compute.strided_copy_efficiency, p.intra_node.collective_us, p.intra_node.message_us,
      1 / p.intra_node.bandwidth_efficiency, p.inter_node.collective_us, p.inter_node.message_us, inter_bytes,
      inter_bytes / std::pow(p.inter_node.contention_peers, p.inter_node.contention_exponent),
      p.host_synchronize_us;
  return x;
}

CostParameters to_parameters(const Eigen::VectorXd& x, const CostParameters& start) {
  const auto efficiency = [](double inverse) { return 1 / std::max(inverse, 1 / kMaxEfficiency); };
  CostParameters p = start;
  p.kinds = {};
  p.compute.launch_us = x[kLaunch];
  p.compute.matrix_efficiency = efficiency(x[kMatrix]);
  p.compute.half_efficiency_rows = x[kMatrixRows] * p.compute.matrix_efficiency;
  p.compute.memory_efficiency = efficiency(x[kMemory]);
  p.compute.strided_copy_efficiency = efficiency(x[kStrided]);
  p.intra_node.collective_us = x[kIntraCollective];
  p.intra_node.message_us = x[kIntraMessage];
  p.intra_node.bandwidth_efficiency = efficiency(x[kIntraBytes]);
  p.inter_node.collective_us = x[kInterCollective];
  p.inter_node.message_us = x[kInterMessage];
  p.inter_node.bandwidth_efficiency = efficiency(x[kInterBytes]);
  p.inter_node.contention_peers = x[kInterContention] > 0
                                      ? std::pow(1 / p.inter_node.bandwidth_efficiency / x[kInterContention],
                                                 1 / p.inter_node.contention_exponent)
                                      : std::numeric_limits<double>::infinity();
  p.host_synchronize_us = x[kHost];
  return p;
}

}  // namespace flex
