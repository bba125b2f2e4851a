#include "runtime/local_cluster.h"

#include <gtest/gtest.h>

#include "costmodel/cost_model.h"
#include "costmodel/prediction.h"

namespace flex {
namespace {

TEST(LocalCluster, HasTheRanksOfTheJob) {
  const Cluster one = local_cluster({4, 4}, Device::cpu(), 2);
  EXPECT_EQ(one.nodes, 1);
  EXPECT_EQ(one.world(), 4);
  EXPECT_EQ(one.host_cores, 2);
  EXPECT_EQ(one.devices_per_node(), 1);
  EXPECT_EQ(local_cluster({8, 8}, Device::cuda(0), 2).device.kind, DeviceKind::kCuda);
}

// Nodes that are made of the ranks of one host: predictions need a link between them.
TEST(LocalCluster, HasALinkBetweenNodes) {
  const Cluster cluster = local_cluster({4, 2}, Device::cpu(), 2);
  EXPECT_EQ(cluster.nodes, 2);
  const CostModel costs = cost_model_of(cluster);
  const Workload workload{.world = 4,
                          .num_experts = 4,
                          .num_tokens = 256,
                          .capacity = 128,
                          .top_k = 2,
                          .model_dim = 64,
                          .hidden_dim = 64};
  PlanPredictor predictor({.workload = workload, .cluster = cluster}, costs);
  EXPECT_GT(predictor.best().total_us, 0);
}

}  // namespace
}  // namespace flex
