#include "costmodel/cluster.h"

#include <gtest/gtest.h>

#include "tests/support/compare.h"

namespace flex::testing {
namespace {

TEST(Cluster, IsTheTopologyInNodes) {
  const Cluster cluster = cluster_of({.world = 6, .ranks_per_node = 2});
  EXPECT_EQ(cluster.nodes, 3);
  EXPECT_EQ(cluster.ranks_per_node, 2);
  EXPECT_EQ(cluster.world(), 6);
  EXPECT_EQ(cluster.topology().world, 6);
  EXPECT_EQ(cluster.topology().ranks_per_node, 2);
}

TEST(Cluster, NeedsWholeNodes) {
  const auto text = [](int world, int ranks_per_node) {
    return error_text([&] { static_cast<void>(cluster_of({world, ranks_per_node})); });
  };
  EXPECT_EQ(text(6, 4), "6 ranks do not fill nodes of 4; use a number of ranks per node that divides them");
  EXPECT_EQ(text(0, 1), "0 ranks do not fill nodes of 1; use a number of ranks per node that divides them");
  EXPECT_EQ(text(4, 0), "4 ranks do not fill nodes of 0; use a number of ranks per node that divides them");
}

TEST(Cluster, OfAJobKnowsNoHardware) {
  EXPECT_FALSE(cluster_of({.world = 4, .ranks_per_node = 2}).is_described());
  const Cluster cluster = {.nodes = 2, .ranks_per_node = 8, .ranks_per_device = 4, .nics_per_node = 2};
  EXPECT_FALSE(cluster.is_described());
  EXPECT_EQ(cluster.devices_per_node(), 2);
  EXPECT_EQ(cluster.ranks_per_nic(), 4);
}

TEST(DeviceFacts, PeakGoesByTheType) {
  const DeviceFacts device = {.peak_fp64_TFLOPs = 1,
                              .peak_fp32_TFLOPs = 2,
                              .peak_tf32_TFLOPs = 3,
                              .peak_fp16_TFLOPs = 4,
                              .peak_bf16_TFLOPs = 5};
  EXPECT_EQ(device.peak_TFLOPs(DType::kF64, true), 1);
  EXPECT_EQ(device.peak_TFLOPs(DType::kF32), 2);
  EXPECT_EQ(device.peak_TFLOPs(DType::kF32, true), 3);
  EXPECT_EQ(device.peak_TFLOPs(DType::kF16, true), 4);
  EXPECT_EQ(device.peak_TFLOPs(DType::kBF16), 5);
  EXPECT_EQ(device.peak_TFLOPs(DType::kI32), 0);
}

TEST(Topology, KnowsHowFarAMessageTravels) {
  const Topology topology = {.world = 6, .ranks_per_node = 2};
  EXPECT_EQ(topology.link(3, 3), LinkClass::kSelf);
  EXPECT_EQ(topology.link(2, 3), LinkClass::kIntraNode);
  EXPECT_EQ(topology.link(3, 2), LinkClass::kIntraNode);
  EXPECT_EQ(topology.link(3, 4), LinkClass::kInterNode);
  EXPECT_EQ(topology.link(0, 5), LinkClass::kInterNode);
}

}  // namespace
}  // namespace flex::testing
