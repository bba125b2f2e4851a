#include "costmodel/baseline.h"

#include <gtest/gtest.h>

#include "tests/costmodel/cost_cases.h"

namespace flex::testing {
namespace {

constexpr double kRounding = 1e-9;

LayerStack toy_stack() {
  return {.workload = {.world = 8,
                       .num_experts = 16,
                       .num_tokens = 64,
                       .capacity = 8,
                       .top_k = 2,
                       .model_dim = 64,
                       .hidden_dim = 128,
                       .agree_on_tokens = false},
          .cluster = toy_cluster()};
}

double sum_of_costs_us(const Simulation& simulation) {
  double sum = 0;
  for (const OperationCost& cost : simulation.costs) sum += cost.duration_us;
  return sum;
}

TEST(Baseline, OneStreamTakesTheSumOfAllOperations) {
  const CostModel costs(toy_cluster(), toy_parameters());
  LayerStack stack = toy_stack();
  for (const char* plan : {"r1 d1 linear", "r1 d4 2dh"}) {
    stack.forward = stack.backward = parse_plan(plan);
    for (const Formulation& formulation : {kFairseq, Formulation{.one_stream = true}}) {
      const Simulation simulation = simulate_formulation(stack, formulation, costs);
      EXPECT_NEAR(simulation.total_us, sum_of_costs_us(simulation), kRounding * simulation.total_us);
    }
  }
}

TEST(Baseline, FlexsOwnFormulationIsItsOwnSimulation) {
  const CostModel costs(toy_cluster(), toy_parameters());
  LayerStack stack = toy_stack();
  stack.forward = stack.backward = parse_plan("r1 d2 2dh");
  PassSequence sequence;
  sequence.build(stack);
  EXPECT_EQ(simulate_formulation(stack, {}, costs).total_us, simulate(sequence.passes(), costs).total_us);
  EXPECT_LT(simulate_formulation(stack, {}, costs).total_us,
            simulate_formulation(stack, {.one_stream = true}, costs).total_us);
}

TEST(Baseline, TheUnflexibleLayoutHasProductsOfCRows) {
  CostParameters parameters = toy_parameters();
  parameters.compute.memory_efficiency = 100;  // arithmetic decides
  const CostModel costs(toy_cluster(), parameters);
  const BaselineCosts unflexible(costs, {.flexible_layout = false});
  const LayerStack stack = toy_stack();
  const Schedule schedule = build_schedule(Part::kExpert, stack.workload, kDefaultPlan, stack.cluster);
  for (std::size_t i = 0; i < schedule.operations.size(); ++i) {
    const double before_us = costs.cost(schedule, i, {.num_tokens = 64}).duration_us;
    const double after_us = unflexible.cost(schedule, i, {.num_tokens = 64}).duration_us;
    if (schedule.operations[i].kind != OperationKind::kExpertFfn) {
      EXPECT_EQ(after_us, before_us) << label(schedule.operations[i]);
      continue;
    }
    // 64 rows reach 2/3, 8 groups of 8 rows 1/5. Four launches of 3 us.
    EXPECT_NEAR((after_us - 12) / (before_us - 12), (2.0 / 3) / (1.0 / 5), 1e-9);
  }
}

// T = 4, E = 2, C = 4, M = 8 in fp32: a mask of 32 elements.
TEST(Baseline, EinsumWorkedByHand) {
  const OperationRoofline roofline(toy_cluster(), toy_parameters());
  const Workload w{
      .num_experts = 2, .num_tokens = 4, .capacity = 4, .top_k = 2, .model_dim = 8, .hidden_dim = 8};
  const auto us = [&](OperationKind kind) { return einsum_us(roofline, kind, w, 4); };
  // A product: 512 operations at 1/9 of 5e6 a us, or 128 + (8 + 4) * 32 bytes at 5e4: the latter.
  const double product = 512 / 5e4;
  EXPECT_NEAR(us(OperationKind::kDecode), 3 + product, kRounding);
  EXPECT_NEAR(us(OperationKind::kEncodeBackward), 3 + product, kRounding);
  // Two writes, one sum of three, to booleans and back: 32 * (5 * 4 + 5 + 5) bytes.
  EXPECT_NEAR(us(OperationKind::kEncode), 14 * 3 + product + 960 / 5e4, kRounding);
  EXPECT_NEAR(us(OperationKind::kDecodeBackward), 7 * 3 + 2 * product + 256 / 5e4, kRounding);
}

TEST(Baseline, EinsumTakesThePlaceOfEncodeAndDecodeOnly) {
  const CostModel costs(toy_cluster(), toy_parameters());
  const BaselineCosts einsum(costs, {.einsum = true});
  LayerStack stack = toy_stack();
  for (const Pass pass : {Pass::kForward, Pass::kBackward}) {
    stack.workload.pass = pass;
    const Schedule schedule = build_schedule(Part::kExpert, stack.workload, kDefaultPlan, stack.cluster);
    for (std::size_t i = 0; i < schedule.operations.size(); ++i) {
      const OperationKind kind = schedule.operations[i].kind;
      const bool replaced = kind == OperationKind::kEncode || kind == OperationKind::kDecode ||
                            kind == OperationKind::kDecodeBackward || kind == OperationKind::kEncodeBackward;
      const OperationCost cost = einsum.cost(schedule, i, {.num_tokens = 64});
      if (replaced) {
        EXPECT_EQ(cost.duration_us, einsum_us(costs.roofline(), kind, stack.workload, 64));
      } else {
        EXPECT_EQ(cost, costs.cost(schedule, i, {.num_tokens = 64}));
      }
    }
  }
}

TEST(Baseline, ErrorsOfPassesAreFlexs) {
  CostParameters parameters = toy_parameters();
  parameters.pass_relative_error = {0.25, 0.5};
  const CostModel costs(toy_cluster(), parameters);
  EXPECT_EQ(BaselineCosts(costs, kFairseq).pass_error(AllToAllAlgorithm::kLinear), 0.25);
  EXPECT_EQ(BaselineCosts(costs, {}).pass_error(AllToAllAlgorithm::kHierarchical2d), 0.5);
}

TEST(Baseline, OverlapIsFlexsUnlessThereIsOneStream) {
  const CostModel costs(toy_cluster(), toy_parameters());
  EXPECT_EQ(BaselineCosts(costs, {}).overlap(AllToAllAlgorithm::kHierarchical2d).compute, 1.5);
  EXPECT_EQ(BaselineCosts(costs, kFairseq).overlap(AllToAllAlgorithm::kHierarchical2d).compute, 1);
}

// T = 4, E = 2, C = 4, M = 8, H = 16 in fp32.
TEST(Baseline, MemoryWorkedByHand) {
  const Workload w{
      .num_experts = 2, .num_tokens = 4, .capacity = 4, .top_k = 2, .model_dim = 8, .hidden_dim = 16};
  const FrameworkMemory sparse = framework_memory(w, {}, 1);
  EXPECT_EQ(sparse.state_bytes, 4 * 4 * (2 * 2 * 8 * 16));
  // x, y; slots in, hidden, slots out.
  EXPECT_EQ(sparse.activation_bytes, 4 * (2 * 4 * 8 + 8 * (8 + 16 + 8)));
  EXPECT_EQ(sparse.mask_bytes, 0);
  EXPECT_EQ(sparse.base_bytes, std::int64_t{1} << 30);
  EXPECT_EQ(sparse.total_bytes(), 8192 + 1280 + (std::int64_t{1} << 30));

  // Making the masks takes 2 one-hots of 16 by 12 bytes, and 32 elements by 13; keeping them 2 * 16 * 4 and
  // 32 * 9: less, but all activations are there then.
  const FrameworkMemory dense = framework_memory(w, kFairseq, 0);
  EXPECT_EQ(dense.activation_bytes, 1280);
  EXPECT_EQ(dense.mask_bytes, 128 + 288);

  // With narrow layers the masks are most, and the peak is when they are made.
  const Workload narrow{
      .num_experts = 2, .num_tokens = 64, .capacity = 64, .top_k = 2, .model_dim = 1, .hidden_dim = 1};
  const FrameworkMemory peak = framework_memory(narrow, kFairseq, 0);
  EXPECT_EQ(peak.activation_bytes, 4 * 64);
  EXPECT_EQ(peak.mask_bytes, 2 * 12 * 64 * 64 + 13 * 64 * 128);
}

}  // namespace
}  // namespace flex::testing
