#pragma once

#include <array>

#include "costmodel/cluster.h"
#include "costmodel/cost_parameters.h"
#include "kernels/dtype.h"

namespace flex {

/// What one rank computes with: a device's figures times what is reached of them, divided by the ranks that
/// share the device. Not modelled: that a rank has the device to itself while the others wait.
struct ComputeRates {
  std::array<double, 4> flops_per_us{};       ///< many rows, by floating DType; 0: does not compute in it
  std::array<double, 4> gate_flops_per_us{};  ///< the same for the gate's products
  double half_efficiency_rows = 0;
  double bytes_per_us = 0;          ///< read plus written, whole rows
  double strided_bytes_per_us = 0;  ///< read plus written, 2DH's copies
  double launch_us = 0;
};
[[nodiscard]] ComputeRates compute_rates(const Cluster& cluster, const ComputeParameters& parameters);

/// Part of the peak that a product of `rows` rows reaches of what one with many rows does:
/// rows / (rows + half_efficiency_rows). Columns and the model dimension are taken as large.
/// @source Half-performance length: Hockney and Jesshope, "Parallel Computers", 1981
[[nodiscard]] double row_efficiency(double rows, double half_efficiency_rows);

/// The slower of arithmetic and memory traffic, in microseconds, without launches. `bytes`: least read and
/// written. Not modelled: quantisation to tiles and waves.
/// @source Williams et al., "Roofline", CACM 2009
[[nodiscard]] double product_us(double flops, double bytes, double rows, double flops_per_us,
                                const ComputeRates& rates);

}  // namespace flex
