#pragma once

#include <array>

#include "costmodel/cluster.h"
#include "costmodel/communication.h"
#include "costmodel/cost_parameters.h"
#include "costmodel/operation_work.h"
#include "costmodel/roofline.h"

namespace flex {

/// The formulas of roofline.h and communication.h chosen by kind of operation: durations without any table.
class OperationRoofline {
 public:
  OperationRoofline(const Cluster& cluster, const CostParameters& parameters);

  /// With nothing beside it. @throws InputError for products in a type that the device does not compute in.
  [[nodiscard]] double duration_us(const OperationWork& work) const;

  /// The same for products that run in groups of `group_rows` rows: what small matrices leave of the
  /// efficiency, with the work and the bytes of the whole.
  [[nodiscard]] double product_us(const OperationWork& work, double group_rows) const;

  [[nodiscard]] const ComputeRates& rates() const { return rates_; }
  [[nodiscard]] const LinkRates& intra_node() const { return network_.intra_node; }
  [[nodiscard]] const LinkRates& inter_node() const { return network_.inter_node; }

 private:
  [[nodiscard]] double fixed_us(const OperationWork& work) const;
  [[nodiscard]] double variable_us(const OperationWork& work) const;
  [[nodiscard]] double expert_product_us(const OperationWork& work, double group_rows) const;

  ComputeRates rates_;
  NetworkRates network_;
  double host_synchronize_us_;
  std::array<std::optional<KindParameters>, kNumOperationKinds> kinds_;
};

}  // namespace flex
