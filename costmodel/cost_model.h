#pragma once

#include <optional>

#include "costmodel/cluster.h"
#include "costmodel/cost_parameters.h"
#include "costmodel/cost_table.h"
#include "costmodel/operation_cost.h"
#include "costmodel/operation_roofline.h"

namespace flex {

/// What operations cost on a described cluster: from measurements where there is a table of them, else from
/// formulas and fitted parameters. All ranks cost the same for equal loads.
///
///     const Cluster cluster = load_cluster("azure_ndv4_a100", 32);
///     const CostModel costs(cluster, calibration_of(cluster).parameters);
///     const Simulation simulation = simulate(passes, costs);
class CostModel final : public OperationCosts {
 public:
  /// `table`: of samples taken on this cluster.
  /// @throws InputError for a cluster that is not described, or has several nodes and no link between them.
  CostModel(const Cluster& cluster, const CostParameters& parameters, std::optional<CostTable> table = {});

  /// A load's tokens and counted rows change what the sizes of the operation say; padded slots cost alike on
  /// all ranks. @throws InputError for an operation of a type that the device does not compute in.
  [[nodiscard]] OperationCost cost(const Schedule& schedule, std::size_t index,
                                   const RankLoad& load) const override;
  /// The same of an operation by its sizes alone.
  [[nodiscard]] OperationCost cost_of(const OperationWork& work) const;
  [[nodiscard]] OverlapSlowdown overlap(AllToAllAlgorithm algorithm) const override {
    return parameters_.overlap(algorithm);
  }
  [[nodiscard]] double pass_error(AllToAllAlgorithm algorithm) const override {
    return parameters_.pass_error(algorithm);
  }

  [[nodiscard]] const CostParameters& parameters() const { return parameters_; }
  [[nodiscard]] const OperationRoofline& roofline() const { return roofline_; }
  [[nodiscard]] const std::optional<CostTable>& table() const { return table_; }

 private:
  CostParameters parameters_;
  OperationRoofline roofline_;
  std::optional<CostTable> table_;
};

/// The cluster's built-in or default parameters, and no table.
[[nodiscard]] CostModel cost_model_of(const Cluster& cluster);

}  // namespace flex
