#include <gtest/gtest.h>

#include "base/error.h"
#include "costmodel/operation_roofline.h"
#include "tests/base/expect_error.h"
#include "tests/costmodel/cost_cases.h"

/// The formulas, worked by hand.
namespace flex::testing {
namespace {

constexpr double kRounding = 1e-12;

void expect_equal(double actual, double expected) { EXPECT_NEAR(actual, expected, kRounding * expected); }

TEST(Roofline, RatesAreWhatIsReachedOfTheDevice) {
  ComputeParameters parameters = toy_parameters().compute;
  const ComputeRates rates = compute_rates(toy_cluster(), parameters);
  expect_equal(rates.flops_per_us[static_cast<std::size_t>(DType::kF32)], 5e6);
  expect_equal(rates.flops_per_us[static_cast<std::size_t>(DType::kF16)], 40e6);
  EXPECT_EQ(rates.flops_per_us[static_cast<std::size_t>(DType::kF64)], 0);
  expect_equal(rates.bytes_per_us, 5e4);
  expect_equal(rates.strided_bytes_per_us, 1e4);

  parameters.tf32_experts = true;
  const ComputeRates tf32 = compute_rates(toy_cluster(), parameters);
  expect_equal(tf32.flops_per_us[static_cast<std::size_t>(DType::kF32)], 20e6);
  expect_equal(tf32.gate_flops_per_us[static_cast<std::size_t>(DType::kF32)], 5e6);
}

TEST(Roofline, RanksOfOneDeviceShareIt) {
  Cluster shared = toy_cluster();
  shared.ranks_per_device = 4;
  const ComputeRates rates = compute_rates(shared, toy_parameters().compute);
  expect_equal(rates.flops_per_us[static_cast<std::size_t>(DType::kF32)], 1.25e6);
  expect_equal(rates.bytes_per_us, 1.25e4);
  EXPECT_EQ(rates.launch_us, 3);
}

TEST(Roofline, AProductTakesTheSlowerOfArithmeticAndMemory) {
  const ComputeRates rates = compute_rates(toy_cluster(), toy_parameters().compute);
  EXPECT_EQ(row_efficiency(32, 32), 0.5);
  EXPECT_EQ(row_efficiency(96, 32), 0.75);
  expect_equal(product_us(1e7, 1e5, 32, 5e6, rates), 4);  // half of the rate; 2 us of memory
  expect_equal(product_us(1e7, 3e5, 32, 5e6, rates), 6);
  EXPECT_EQ(product_us(0, 0, 0, 5e6, rates), 0);
}

TEST(Communication, LinksAreShared) {
  Cluster cluster = toy_cluster();
  const CostParameters parameters = toy_parameters();
  expect_equal(network_rates(cluster, parameters).intra_node.bytes_per_us, 5e3);
  expect_equal(network_rates(cluster, parameters).inter_node.bytes_per_us, 800);
  cluster.nics_per_node = 1;  // of four ranks
  cluster.ranks_per_device = 2;
  expect_equal(network_rates(cluster, parameters).intra_node.bytes_per_us, 2.5e3);
  expect_equal(network_rates(cluster, parameters).inter_node.bytes_per_us, 200);
}

TEST(Communication, ContentionDoublesBytesAtItsPeers) {
  const NetworkRates network = network_rates(toy_cluster(), toy_parameters());
  EXPECT_EQ(network.inter_node.contention(0), 1);
  EXPECT_EQ(network.inter_node.contention(4), 1.25);
  EXPECT_EQ(network.inter_node.contention(8), 2);
  EXPECT_EQ(network.intra_node.contention(1e6), 1);
}

TEST(Communication, LinearTakesTheSlowerClassOfLinks) {
  const NetworkRates network = network_rates(toy_cluster(), toy_parameters());
  // Between nodes: 4 messages of 5 us, 16,000 bytes at 800 a us times 1.25.
  expect_equal(linear_exchange_us(8, 4000, network), 20 + 25);
  // Four ranks are one node: 3 messages of 2 us, 12,000 bytes at 5,000 a us.
  expect_equal(linear_exchange_us(4, 4000, network), 6 + 2.4);
  EXPECT_EQ(linear_exchange_us(1, 4000, network), 0);
  // Six ranks: the largest node has 4, two peers are outside.
  expect_equal(linear_exchange_us(6, 4000, network), 2 * 5 + 8000.0 / 800 * (1 + 1.0 / 16));
}

TEST(Communication, RingsWithinAndBetweenNodes) {
  const NetworkRates network = network_rates(toy_cluster(), toy_parameters());
  expect_equal(ring_gather_us(2, 1000, network), 2 + 0.2);
  // 7 steps, one of them between nodes. Inside 7,000 bytes; four ranks' bytes come through four NICs.
  expect_equal(ring_gather_us(8, 1000, network), 6 * 2 + 5 + 1.4);
  expect_equal(ring_gather_us(8, 1000,
                              {.ranks_per_node = 4,
                               .intra_node = network.intra_node,
                               .inter_node = {.bytes_per_us = 500, .message_us = 5}}),
               6 * 2 + 5 + 2);
  EXPECT_EQ(ring_gather_us(1, 1000, network), 0);
}

TEST(Communication, AllReduce) {
  const NetworkRates network = network_rates(toy_cluster(), toy_parameters());
  // Up and down two levels of 2 us and one of 5; inside 12,000 bytes at 5,000, between 8,000 by 4 NICs at
  // 800.
  expect_equal(all_reduce_us(8, 8000, network), 2 * (2 * 2 + 5) + 2.5);
  expect_equal(all_reduce_us(4, 8000, network), 2 * (2 * 2) + 2.4);
  EXPECT_EQ(all_reduce_us(1, 8000, network), 0);
  expect_equal(host_agreement_us(8, network), 18);
}

OperationWork product_work(OperationKind kind, double matrices) {
  // 2 experts, 32 rows, 16 by 8.
  return {.kind = kind,
          .batch = 2,
          .rows = 32,
          .columns = 8,
          .model_dim = 16,
          .bytes = 4 * (2 * matrices * 16 * 8 + 2 * 32 * (16 + 8)),
          .flops = 2 * matrices * 2 * 32 * 16 * 8};
}

TEST(OperationRoofline, ProductsLaunchTwoKernelsForEachMatrix) {
  const OperationRoofline roofline(toy_cluster(), toy_parameters());
  EXPECT_EQ(roofline.fixed_us(product_work(OperationKind::kExpertFfnBackwardFc2, 1)), 2 * 3);
  EXPECT_EQ(roofline.fixed_us(product_work(OperationKind::kExpertFfn, 2)), 4 * 3);
  EXPECT_EQ(roofline.fixed_us(product_work(OperationKind::kExpertFfn, 3)), 6 * 3);
  EXPECT_EQ(roofline.fixed_us({.kind = OperationKind::kGate}), 3);
  EXPECT_EQ(roofline.fixed_us({.kind = OperationKind::kGateBackward}), 9);
  EXPECT_EQ(roofline.fixed_us({.kind = OperationKind::kRoute}), 3);
}

TEST(OperationRoofline, CountedRowsOfEachExpert) {
  CostParameters parameters = toy_parameters();
  parameters.compute.memory_efficiency = 100;  // arithmetic decides
  OperationWork work = product_work(OperationKind::kExpertFfn, 2);
  const OperationRoofline roofline(toy_cluster(), parameters);
  const std::vector<std::int64_t> full = {32, 32};
  const double even_us = roofline.variable_us(work);
  work.expert_rows = full;
  expect_equal(roofline.variable_us(work), even_us);
  // 64 rows of one expert, at 2/3 of the rate where 32 and 32 had 1/2; the other one has none.
  const std::vector<std::int64_t> uneven = {64, 0};
  work.expert_rows = uneven;
  expect_equal(roofline.variable_us(work), even_us * 0.75);
  const std::vector<std::int64_t> nothing = {0, 0};
  work.expert_rows = nothing;
  EXPECT_EQ(roofline.variable_us(work), 0);
}

TEST(OperationRoofline, CountedExpertsWithoutRowsReadNoWeights) {
  CostParameters parameters = toy_parameters();
  parameters.compute.matrix_efficiency = 100;  // memory decides
  OperationWork work = product_work(OperationKind::kExpertFfn, 2);
  const OperationRoofline roofline(toy_cluster(), parameters);
  const std::vector<std::int64_t> one = {32, 0};
  const double both_us = roofline.variable_us(work);
  expect_equal(both_us, work.bytes / 5e4);
  work.expert_rows = one;
  expect_equal(roofline.variable_us(work), both_us / 2);
}

TEST(OperationRoofline, SmallGroupsLoseEfficiencyOnly) {
  CostParameters parameters = toy_parameters();
  parameters.compute.memory_efficiency = 100;
  const OperationRoofline roofline(toy_cluster(), parameters);
  const OperationWork work = product_work(OperationKind::kExpertFfn, 2);
  const double fixed_us = roofline.fixed_us(work);
  // 32 rows reach 1/2, groups of 8 reach 1/5; groups larger than the product change nothing.
  expect_equal(roofline.grouped_product_us(work, 8) - fixed_us, 2.5 * roofline.variable_us(work));
  expect_equal(roofline.grouped_product_us(work, 64), roofline.duration_us(work));
}

TEST(OperationRoofline, PhasesOf2dh) {
  const OperationRoofline roofline(toy_cluster(), toy_parameters());
  expect_equal(roofline.duration_us({.kind = OperationKind::kNodeCopy, .world = 8, .bytes = 64000}), 3 + 6.4);
  OperationWork phase{.kind = OperationKind::kNodeAllToAll, .world = 8, .peers = 4, .bytes_per_peer = 8000};
  expect_equal(roofline.duration_us(phase), 20 + 3 * 2 + 24000.0 / 5000);
  phase = {.kind = OperationKind::kRailAllToAll, .world = 8, .peers = 2, .bytes_per_peer = 16000};
  expect_equal(roofline.duration_us(phase), 30 + 5 + 20 * (1 + 1.0 / 64));
  // One node: the rail is the rank itself, which reads and writes its bytes.
  phase = {.kind = OperationKind::kRailAllToAll, .world = 4, .peers = 1, .bytes = 50000};
  expect_equal(roofline.duration_us(phase), 20 + 2);
}

TEST(OperationRoofline, CollectivesPayForTheFarthestOfTheirLinks) {
  const OperationRoofline roofline(toy_cluster(), toy_parameters());
  OperationWork work{.kind = OperationKind::kAllToAll, .world = 8, .peers = 8, .bytes_per_peer = 4000};
  expect_equal(roofline.duration_us(work), 30 + 45);
  work.world = 4;
  work.peers = 4;
  expect_equal(roofline.duration_us(work), 20 + 8.4);
  work = {.kind = OperationKind::kGatherWeights, .world = 8, .peers = 2, .bytes_per_peer = 1000};
  expect_equal(roofline.duration_us(work), 20 + 2.2);
  work.kind = OperationKind::kScatterGradients;
  expect_equal(roofline.duration_us(work), 20 + 2.2);
  for (const auto kind : {OperationKind::kReduceGateLoss, OperationKind::kReduceGateGradients,
                          OperationKind::kReduceSharedGradients}) {
    expect_equal(roofline.duration_us({.kind = kind, .world = 8, .peers = 8, .bytes_per_peer = 8000}),
                 30 + 18 + 2.5);
  }
  expect_equal(roofline.duration_us({.kind = OperationKind::kAgreeTokens, .world = 8, .peers = 8}), 40 + 18);
  expect_equal(roofline.duration_us({.kind = OperationKind::kAgreeCapacity, .world = 1}), 40);
}

TEST(OperationRoofline, AKindsOwnParametersReplaceItsFixedPart) {
  CostParameters parameters = toy_parameters();
  parameters.kinds[static_cast<std::size_t>(OperationKind::kAllToAll)] = {.fixed_us = 7, .time_factor = 2};
  const OperationRoofline roofline(toy_cluster(), parameters);
  const OperationWork work{.kind = OperationKind::kAllToAll, .world = 8, .peers = 8, .bytes_per_peer = 4000};
  expect_equal(roofline.duration_us(work), 7 + 90);
  expect_equal(roofline.fixed_us(work) + roofline.variable_us(work), 30 + 45);
}

TEST(OperationRoofline, RefusesTypesThatTheDeviceDoesNotComputeIn) {
  const OperationRoofline roofline(toy_cluster(), toy_parameters());
  for (const auto kind : {OperationKind::kExpertFfn, OperationKind::kGate}) {
    EXPECT_EQ(message_of<InputError>([&] {
                static_cast<void>(roofline.duration_us({.kind = kind, .dtype = DType::kF64, .flops = 1}));
              }),
              "Toy does not compute in fp64");
  }
}

}  // namespace
}  // namespace flex::testing
