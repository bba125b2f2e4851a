#include "costmodel/cost_model.h"

#include "base/require.h"

namespace flex {
namespace {

OperationRoofline checked_roofline(const Cluster& cluster, const CostParameters& parameters) {
  require(cluster.is_described(), "a cost model needs a described cluster, which says what it is made of");
  require(cluster.nodes == 1 || (cluster.inter_node.bandwidth_GBps > 0 && cluster.nics_per_node > 0),
          "cluster {} has {} nodes but no inter_node link", cluster.name, cluster.nodes);
  return {cluster, parameters};
}

}  // namespace

CostModel::CostModel(const Cluster& cluster, const CostParameters& parameters, std::optional<CostTable> table)
    : parameters_(parameters), roofline_(checked_roofline(cluster, parameters)), table_(std::move(table)) {}

OperationCost CostModel::cost(const Schedule& schedule, std::size_t index, const RankLoad& load) const {
  OperationCost cost = cost_of(work_of(schedule, schedule.operations[index], load));
  if (schedule.operations[index].stream == StreamKind::kHost) cost.issue_us = 0;
  return cost;
}

OperationCost CostModel::cost_of(const OperationWork& work) const {
  OperationCost cost{.duration_us = roofline_.duration_us(work),
                     .origin = CostOrigin::kRoofline,
                     .relative_error = parameters_.error_of(work.kind),
                     .issue_us = parameters_.issue_us[static_cast<std::size_t>(work.kind)]};
  if (!table_) return cost;
  const CostTable::Ratio ratio = table_->ratio(work);
  cost.duration_us *= ratio.value;
  cost.origin = ratio.origin;
  cost.relative_error = ratio.relative_error.value_or(cost.relative_error);
  return cost;
}

CostModel cost_model_of(const Cluster& cluster) { return {cluster, calibration_of(cluster).parameters}; }

}  // namespace flex
