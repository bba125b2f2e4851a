#include "costmodel/cost_model.h"

#include <gtest/gtest.h>

#include "tests/base/expect_error.h"
#include "tests/costmodel/cost_cases.h"
#include "tests/costmodel/simulator_cases.h"
#include "tests/support/count_allocations.h"

namespace flex::testing {
namespace {

// Sums of up to a few hundred durations.
constexpr double kRounding = 1e-9;

CostModel toy_model() { return {toy_cluster(), toy_parameters()}; }

/// A random stack on a described cluster of its size, in a type that the toy computes in.
LayerStack described_stack(PhiloxStream& random) {
  LayerStack stack = random_stack(random);
  const Cluster size = stack.cluster;
  stack.cluster = toy_cluster();
  stack.cluster.nodes = size.nodes;
  stack.cluster.ranks_per_node = size.ranks_per_node;
  stack.cluster.nics_per_node = random.below(2) == 0 ? 1 : size.ranks_per_node;
  if (stack.workload.dtype != DType::kF32) stack.workload.dtype = DType::kF16;
  return stack;
}

CostParameters random_parameters(PhiloxStream& random) {
  CostParameters p = toy_parameters();
  p.compute.launch_us = 5 * random.uniform();
  p.compute.matrix_efficiency = 0.1 + random.uniform();
  p.compute.half_efficiency_rows = 100 * random.uniform();
  p.inter_node.message_us = 10 * random.uniform();
  p.inter_node.contention_peers = 1 + 20 * random.uniform();
  p.linear = {.compute = 1 + random.uniform(), .communication = 1 + random.uniform()};
  p.hierarchical = {.compute = 1 + random.uniform(), .communication = 1 + random.uniform()};
  return p;
}

TEST(CostModel, NeedsADescribedCluster) {
  EXPECT_EQ(message_of<InputError>(
                [] { static_cast<void>(CostModel({.nodes = 2, .ranks_per_node = 4}, toy_parameters())); }),
            "a cost model needs a described cluster, which says what it is made of");
  Cluster cluster = toy_cluster();
  cluster.inter_node = {};
  EXPECT_EQ(message_of<InputError>([&] { static_cast<void>(CostModel(cluster, toy_parameters())); }),
            "cluster toy has 2 nodes but no inter_node link");
  cluster.nodes = 1;
  EXPECT_NO_THROW(static_cast<void>(CostModel(cluster, toy_parameters())));
}

TEST(CostModel, SaysWhereDurationsComeFromAndHowFarTheyMayBeOff) {
  CostParameters parameters = toy_parameters();
  parameters.relative_error[static_cast<std::size_t>(OperationKind::kEncode)] = 0.07;
  const CostModel costs(toy_cluster(), parameters);
  const Workload workload{
      .world = 8, .num_experts = 8, .num_tokens = 64, .capacity = 8, .model_dim = 16, .hidden_dim = 32};
  const Schedule schedule = build_schedule(Part::kExpert, workload, kDefaultPlan, toy_cluster());
  ASSERT_EQ(schedule.operations[0].kind, OperationKind::kEncode);
  const OperationCost cost = costs.cost(schedule, 0, {.num_tokens = 64});
  EXPECT_EQ(cost.origin, CostOrigin::kRoofline);
  EXPECT_EQ(cost.relative_error, 0.07);
  // 64 tokens read, 8 experts of 8 slots written, 64 bytes each.
  EXPECT_NEAR(cost.duration_us, 3 + 8192 / 5e4, kRounding);
  // Slots are written for tokens that are not there, too.
  EXPECT_NEAR(costs.cost(schedule, 0, {.num_tokens = 16}).duration_us, 3 + (1024 + 4096) / 5e4, kRounding);
}

// Every operation of random stacks has a finite duration, and only what does nothing takes none.
TEST(CostModel, KnowsEveryKindOfOperation) {
  std::array<bool, kNumOperationKinds> seen{};
  for (std::uint64_t seed = 0; seed < 1500; ++seed) {
    PhiloxStream random(seed, 11);
    const LayerStack stack = described_stack(random);
    const CostModel costs(stack.cluster, random_parameters(random));
    PassSequence sequence;
    sequence.build(stack);
    for (const SimulatedPass& pass : sequence.passes()) {
      for (std::size_t i = 0; i < pass.schedule->operations.size(); ++i) {
        const Operation& operation = pass.schedule->operations[i];
        seen[static_cast<std::size_t>(operation.kind)] = true;
        const double us =
            costs.cost(*pass.schedule, i, {.num_tokens = stack.workload.num_tokens}).duration_us;
        ASSERT_TRUE(std::isfinite(us) && us > 0) << seed << ": " << label(operation);
      }
    }
  }
  for (std::size_t kind = 0; kind < seen.size(); ++kind) {
    EXPECT_TRUE(seen[kind]) << name(static_cast<OperationKind>(kind));
  }
}

TEST(CostModelProperty, MoreBandwidthNeverMakesAPassSlower) {
  Simulator simulator;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    PhiloxStream random(seed, 12);
    const LayerStack stack = described_stack(random);
    const CostParameters parameters = random_parameters(random);
    Cluster faster = stack.cluster;
    LinkFacts& link = random.below(2) == 0 ? faster.intra_node : faster.inter_node;
    link.bandwidth_GBps *= 1 + 10 * random.uniform();
    PassSequence sequence;
    sequence.build(stack);
    const double before = simulator.run(sequence.passes(), CostModel(stack.cluster, parameters)).total_us;
    const double after = simulator.run(sequence.passes(), CostModel(faster, parameters)).total_us;
    ASSERT_LE(after, before * (1 + kRounding)) << seed;
  }
}

TEST(CostModelProperty, FreeCommunicationLeavesComputeAlone) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    PhiloxStream random(seed, 13);
    LayerStack stack = described_stack(random);
    stack.workload.agree_on_tokens = stack.workload.dropless = false;  // hosts agree through links, too
    stack.forward.expert_kernel = stack.backward.expert_kernel = ExpertKernel::kPadded;
    CostParameters parameters = random_parameters(random);
    parameters.intra_node =
        parameters.inter_node = {.bandwidth_efficiency = 1e300, .message_us = 0, .collective_us = 0};
    parameters.compute.strided_copy_efficiency = parameters.compute.memory_efficiency = 1e300;
    const CostModel costs(stack.cluster, parameters);
    PassSequence sequence;
    sequence.build(stack);
    const Simulation simulation = simulate(sequence.passes(), costs);
    double compute_us = 0;
    double copies_us = 0;  // launched by the communication stream
    for (std::size_t i = 0; i < simulation.operations.size(); ++i) {
      const Operation& operation = simulation.operations[i].operation;
      (operation.stream == StreamKind::kCompute ? compute_us : copies_us) += simulation.costs[i].duration_us;
    }
    const bool copies = stack.forward.all_to_all == AllToAllAlgorithm::kHierarchical2d ||
                        stack.backward.all_to_all == AllToAllAlgorithm::kHierarchical2d;
    if (copies) continue;
    ASSERT_LT(copies_us, kRounding) << seed;
    ASSERT_NEAR(simulation.total_us, compute_us, kRounding * compute_us) << seed;
  }
}

TEST(CostModel, EqualCountsCostWhatEvenRoutingDoes) {
  LayerStack stack{.workload = {.world = 8,
                                .num_experts = 16,
                                .num_tokens = 64,
                                .capacity = 8,
                                .top_k = 2,
                                .model_dim = 64,
                                .hidden_dim = 128,
                                .dropless = true},
                   .forward = parse_plan("r1 d2 2dh counted"),
                   .backward = parse_plan("r1 d4 linear counted"),
                   .cluster = toy_cluster()};
  const CostModel costs = toy_model();
  PassSequence even;
  even.build(stack);
  const double even_us = simulate(even.passes(), costs).total_us;
  std::vector<std::int64_t> counts(8 * 16, 8);
  PassSequence counted;
  counted.build(stack, counts);
  EXPECT_NEAR(simulate(counted.passes(), costs).total_us, even_us, kRounding * even_us);
  // Half of the choices: padded experts would cost as much as before.
  std::ranges::fill(counts, 4);
  counted.build(stack, counts);
  EXPECT_LT(simulate(counted.passes(), costs).total_us, 0.999 * even_us);
}

TEST(CostModel, AllocatesNothing) {
  const CostModel costs = toy_model();
  const Workload workload{
      .world = 8, .num_experts = 8, .num_tokens = 64, .capacity = 8, .model_dim = 16, .hidden_dim = 32};
  const Schedule schedule = build_schedule(Part::kExpert, workload, parse_plan("r1 d4 2dh"), toy_cluster());
  const std::int64_t before = num_allocations();
  double sum_us = 0;
  for (std::size_t i = 0; i < schedule.operations.size(); ++i) {
    sum_us += costs.cost(schedule, i, {.num_tokens = 64}).duration_us;
  }
  EXPECT_EQ(num_allocations(), before);
  EXPECT_GT(sum_us, 0);
}

TEST(CostModel, OfABuiltinCluster) {
  for (const std::string& name : builtin_clusters()) {
    const Cluster cluster = load_cluster(name);
    const CostModel costs = cost_model_of(cluster);
    EXPECT_EQ(costs.parameters(), calibration_of(cluster).parameters) << name;
  }
}

}  // namespace
}  // namespace flex::testing
