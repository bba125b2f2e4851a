#pragma once

#include <array>
#include <optional>

#include "costmodel/cluster.h"
#include "costmodel/communication.h"
#include "costmodel/cost_parameters.h"
#include "costmodel/operation_work.h"
#include "costmodel/roofline.h"

namespace flex {

/// The formulas of roofline.h and communication.h chosen by kind of operation: durations without any table.
///
/// A duration is fixed_us() plus variable_us(), the part that grows with the sizes.
/// - kernels: fixed are launch_us for each, two for a product of the experts (bias and activation follow);
///   variable is product_us() of products, bytes / strided_bytes_per_us of 2DH's copies, and
///   bytes / bytes_per_us of all others.
/// - collectives: fixed is collective_us of their links, the larger of both; variable as in communication.h.
/// - agreements: fixed is host_synchronize_us, variable host_agreement_us().
///
/// A collective of one rank moves its bytes inside its memory.
class OperationRoofline {
 public:
  OperationRoofline(const Cluster& cluster, const CostParameters& parameters);

  /// With nothing beside it; KindParameters applied.
  /// @throws InputError for products in a type that the device does not compute in.
  [[nodiscard]] double duration_us(const OperationWork& work) const;

  /// The same of an expert product that runs in groups of `group_rows` rows: the efficiency of small
  /// matrices, but the work and the bytes of the whole, since weights stay in cache from group to group.
  [[nodiscard]] double grouped_product_us(const OperationWork& work, double group_rows) const;

  /// Both without KindParameters.
  [[nodiscard]] double fixed_us(const OperationWork& work) const;
  [[nodiscard]] double variable_us(const OperationWork& work) const;

  [[nodiscard]] const ComputeRates& rates() const { return rates_; }
  [[nodiscard]] const NetworkRates& network() const { return network_; }

 private:
  [[nodiscard]] double collective_us(double members) const;
  [[nodiscard]] double gate_product_us(const OperationWork& work) const;
  [[nodiscard]] double expert_product_us(const OperationWork& work, double group_rows) const;
  [[nodiscard]] double finish_us(const OperationWork& work, double variable_us) const;

  ComputeRates rates_;
  NetworkRates network_;
  double host_synchronize_us_;
  std::array<std::optional<KindParameters>, kNumOperationKinds> kinds_;
  std::string device_name_;
};

}  // namespace flex
