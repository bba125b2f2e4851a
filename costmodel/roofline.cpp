#include "costmodel/roofline.h"

#include <algorithm>

#include "base/units.h"

namespace flex {
namespace {

constexpr double kFlopsPerUsPerTFLOPs = 1e6;

}  // namespace

ComputeRates compute_rates(const Cluster& cluster, const ComputeParameters& parameters) {
  const DeviceFacts& device = cluster.device;
  const double share = 1.0 / cluster.ranks_per_device;
  ComputeRates rates{.half_efficiency_rows = parameters.half_efficiency_rows,
                     .launch_us = parameters.launch_us};
  const double reached = kFlopsPerUsPerTFLOPs * parameters.matrix_efficiency * share;
  for (std::size_t i = 0; i < rates.flops_per_us.size(); ++i) {
    const auto dtype = static_cast<DType>(i);
    rates.flops_per_us[i] = device.peak_TFLOPs(dtype, parameters.tf32_experts) * reached;
    rates.gate_flops_per_us[i] = device.peak_TFLOPs(dtype, parameters.tf32_gate) * reached;
  }
  const double memory = device.memory_bandwidth_GBps * kBytesPerUsPerGBps * share;
  rates.bytes_per_us = memory * parameters.memory_efficiency;
  rates.strided_bytes_per_us = memory * parameters.strided_copy_efficiency;
  return rates;
}

double row_efficiency(double rows, double half_efficiency_rows) {
  return rows / (rows + half_efficiency_rows);
}

double product_us(double flops, double bytes, double rows, double flops_per_us, const ComputeRates& rates) {
  if (flops == 0) return bytes / rates.bytes_per_us;
  const double arithmetic_us = flops / (flops_per_us * row_efficiency(rows, rates.half_efficiency_rows));
  return std::max(arithmetic_us, bytes / rates.bytes_per_us);
}

}  // namespace flex
