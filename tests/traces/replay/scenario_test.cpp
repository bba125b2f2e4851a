#include "traces/replay/scenario.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "base/error.h"
#include "costmodel/cluster_description.h"

namespace flex {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const InputError& error) {
    return error.what();
  }
  return "no error";
}

std::string error_of(const char* change) {
  Scenario scenario;
  return error_of([&] { set_change(scenario, change); });
}

TEST(Scenario, TakesEveryChange) {
  Scenario s{.cluster = "azure_ndv4_a100", .calibration = "some.json"};
  for (const char* change : {"k=2", "capacity_factor=-1.5", "dtype=bf16", "hidden_dim=8192", "nodes=64",
                             "intra_node_bandwidth=2x", "inter_node_bandwidth=0.5x", "reshard=tile"}) {
    set_change(s, change);
  }
  EXPECT_EQ(s.top_k, 2);
  EXPECT_EQ(s.capacity_factor, -1.5);
  EXPECT_EQ(s.dtype, DType::kBF16);
  EXPECT_EQ(s.hidden_dim, 8192);
  EXPECT_EQ(s.nodes, 64);
  EXPECT_EQ(s.intra_node_bandwidth, 2);
  EXPECT_EQ(s.inter_node_bandwidth, 0.5);
  EXPECT_EQ(s.reshard, ReshardPolicy::kTile);
  EXPECT_EQ(s.calibration, "some.json");
  set_change(s, "cluster=dgx_h100");
  EXPECT_EQ(s.cluster, "dgx_h100");
  EXPECT_EQ(s.calibration, "") << "was of the other cluster";
  EXPECT_EQ(s.changes.size(), 9U);
}

TEST(Scenario, ALaterChangeTakesThePlaceOfAnEarlierOne) {
  Scenario s;
  for (const char* change : {"k=2", "nodes=4", "k=1"}) set_change(s, change);
  EXPECT_EQ(s.top_k, 1);
  EXPECT_THAT(s.changes, ElementsAre("nodes=4", "k=1"));
}

TEST(Scenario, SaysWhatIsWrongWithAChange) {
  EXPECT_EQ(error_of("k"), "\"k\" is no change; it is KEY=VALUE, as in k=2");
  EXPECT_THAT(error_of("hiden_dim=5"),
              HasSubstr("\"hiden_dim\" cannot be changed (did you mean hidden_dim?)"));
  EXPECT_EQ(error_of("k=0"), "k=0: it is a whole number from 1 to 2147483647");
  EXPECT_EQ(error_of("k=1.5"), "k=1.5: it is a whole number from 1 to 2147483647");
  EXPECT_THAT(error_of("nodes=99999999999999999999"), HasSubstr("whole number"));
  EXPECT_THAT(error_of("capacity_factor=nan"), HasSubstr("it is a number: above 0 fixed capacity"));
  EXPECT_THAT(error_of("capacity_factor=1x"), HasSubstr("it is a number"));
  EXPECT_EQ(error_of("dtype=i32"), "dtype=i32: it is fp32, fp16, bf16 or fp64");
  EXPECT_EQ(error_of("inter_node_bandwidth=50"),
            "inter_node_bandwidth=50: it is a factor on the cluster's figure, such as 0.5x");
  EXPECT_THAT(error_of("intra_node_bandwidth=0x"), HasSubstr("such as 0.5x"));
  EXPECT_THAT(error_of("intra_node_bandwidth=-1x"), HasSubstr("such as 0.5x"));
  EXPECT_EQ(error_of("reshard=mirror"), "reshard=mirror: it is split, tile or resample");
  EXPECT_EQ(error_of("cluster="), "cluster=: it is a built-in cluster, or a file");
}

TEST(Scenario, ComparesWithTheBasesChangesAndItsOwn) {
  Scenario base{.cluster = "azure_ndv4_a100"};
  set_change(base, "k=2");
  const Scenario other = compared_scenario(base, "nodes=4  k=1");
  EXPECT_EQ(other.name, "nodes=4  k=1");
  EXPECT_EQ(other.cluster, "azure_ndv4_a100");
  EXPECT_EQ(other.top_k, 1);
  EXPECT_EQ(base.top_k, 2);
  EXPECT_THAT(error_of([&] { static_cast<void>(compared_scenario(base, " ")); }), HasSubstr("has changes"));
}

TEST(Scenario, MachineHasAsManyNodesAsHoldTheTrace) {
  const Scenario s{.cluster = "azure_ndv4_a100"};
  EXPECT_EQ(machine_of(s, 64).cluster.world(), 64);
  EXPECT_EQ(machine_of(s, 4).cluster.world(), 8) << "whole nodes";
  EXPECT_EQ(machine_of(s, 65).cluster.nodes, 9);
}

TEST(Scenario, MachineHasTheScenariosLinks) {
  Scenario s{.cluster = "azure_ndv4_a100", .nodes = 2};
  const Cluster before = machine_of(s, 16).cluster;
  set_change(s, "intra_node_bandwidth=2x");
  set_change(s, "inter_node_bandwidth=0.25x");
  const Cluster after = machine_of(s, 16).cluster;
  EXPECT_EQ(after.intra_node.bandwidth_GBps, 2 * before.intra_node.bandwidth_GBps);
  EXPECT_EQ(after.inter_node.bandwidth_GBps, 0.25 * before.inter_node.bandwidth_GBps);
  EXPECT_EQ(after.inter_node.latency_us, before.inter_node.latency_us);
}

TEST(Scenario, DescribesEveryChange) {
  for (const char* key : {"k=", "capacity_factor=", "dtype=", "hidden_dim=", "cluster=", "nodes=",
                          "intra_node_bandwidth=", "inter_node_bandwidth=", "reshard="}) {
    EXPECT_THAT(describe_changes(), HasSubstr(key));
  }
}

}  // namespace
}  // namespace flex
