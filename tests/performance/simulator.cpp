#include <vector>

#include "costmodel/cluster_description.h"
#include "costmodel/cost_model.h"
#include "costmodel/prediction.h"
#include "tests/performance/measured_work.h"

/// Every plan of a layer on 64 ranks of a described cluster, both passes, 20 times over: schedules, costs and
/// the simulation.
void prepare_work() {}

std::int64_t measured_work() {
  const flex::Cluster cluster = flex::load_cluster("azure_ndv4_a100", 8);
  const flex::CostModel costs = flex::cost_model_of(cluster);
  const flex::LayerStack stack{.workload = {.world = 64,
                                            .num_experts = 32,
                                            .num_tokens = 4096,
                                            .capacity = 16384,
                                            .top_k = 2,
                                            .model_dim = 2048,
                                            .hidden_dim = 2048,
                                            .dtype = flex::DType::kBF16},
                               .cluster = cluster};
  std::int64_t num_plans = 0;
  for (int round = 0; round < 20; ++round) {
    num_plans += static_cast<std::int64_t>(flex::PlanPredictor(stack, costs).all().size());
  }
  return num_plans;
}
