#include "costmodel/simulator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/base/expect_error.h"
#include "tests/costmodel/simulator_cases.h"
#include "tests/support/count_allocations.h"

/// Times worked by hand, closed forms, errors.
namespace flex::testing {
namespace {

using enum OperationKind;
using enum StreamKind;
using ::testing::ElementsAre;

std::vector<double> ends_of(const Simulation& simulation, int rank) {
  std::vector<double> ends;
  for (const OperationTimes& times : simulation.times_of(rank)) ends.push_back(times.end_us);
  return ends;
}

Schedule schedule_of(int world, std::vector<Operation> operations) {
  return {.workload = {.world = world, .num_experts = world}, .operations = std::move(operations)};
}

TEST(Simulator, NothingTakesNoTime) {
  const TestCosts costs(std::vector<std::pair<OperationKind, double>>{});
  EXPECT_EQ(simulate({}, costs).total_us, 0);
}

// encode 3 | dispatch 4 after it | rows 2 beside the dispatch | ffn 1 after the dispatch.
TEST(Simulator, StreamsRunBesideEachOther) {
  const Schedule schedule =
      schedule_of(1, {operation_of(kEncode, kCompute), operation_of(kAllToAll, kCommunication, 1, 0),
                      operation_of(kRowsToExperts, kCompute), operation_of(kExpertFfn, kCompute, 0, 1)});
  const TestCosts costs({{kEncode, 3}, {kAllToAll, 4}, {kRowsToExperts, 2}, {kExpertFfn, 1}});
  const Simulation simulation = simulate(std::vector{SimulatedPass{&schedule}}, costs);
  EXPECT_THAT(ends_of(simulation, 0), ElementsAre(3, 7, 5, 8));
  EXPECT_EQ(simulation.total_us, 8);
}

// The same with compute at half and communication at two thirds of its speed while both run. Until 7 the
// rows' 2 us take 4, in which the dispatch does 4 / 1.5 = 8/3; its other 4/3 run alone until 25/3.
TEST(Simulator, OverlapSlowsBothDown) {
  const Schedule schedule =
      schedule_of(1, {operation_of(kEncode, kCompute), operation_of(kAllToAll, kCommunication, 1, 0),
                      operation_of(kRowsToExperts, kCompute), operation_of(kExpertFfn, kCompute, 0, 1)});
  TestCosts costs({{kEncode, 3}, {kAllToAll, 4}, {kRowsToExperts, 2}, {kExpertFfn, 1}});
  costs.linear = {.compute = 2, .communication = 1.5};
  costs.hierarchical = {.compute = 9, .communication = 9};  // not this plan's
  const Simulation simulation = simulate(std::vector{SimulatedPass{&schedule}}, costs);
  EXPECT_EQ(simulation.times[2].end_us, 7);
  EXPECT_NEAR(simulation.times[1].end_us, 25.0 / 3, 1e-12);
  EXPECT_NEAR(simulation.total_us, 28.0 / 3, 1e-12);
}

// The host queues one after the other in 2 us each. Encode, of 10 us, begins at 2; the copy is queued at 4
// and waits for it; rows begin at 12, long after they were queued. Of a second pass that follows, everything
// has been queued when its turn comes, but for the last, which takes the host until 2 * 6 + 30.
TEST(Simulator, NothingBeginsBeforeTheHostHasQueuedIt) {
  const Schedule schedule =
      schedule_of(1, {operation_of(kEncode, kCompute), operation_of(kAllToAll, kCommunication, 1, 0),
                      operation_of(kRowsToExperts, kCompute), operation_of(kExpertFfn, kCompute, 0, 1)});
  const Schedule second =
      schedule_of(1, {operation_of(kEncode, kCompute), operation_of(kAllToAll, kCommunication, 1, 0),
                      operation_of(kDecode, kCompute)});
  const TestCosts costs([](const Schedule& s, std::size_t index, const RankLoad&) -> OperationCost {
    const OperationKind kind = s.operations[index].kind;
    return {.duration_us = kind == kEncode ? 10.0 : 1.0, .issue_us = kind == kDecode ? 30.0 : 2.0};
  });
  const Simulation simulation = simulate(std::vector{SimulatedPass{&schedule}, {&second}}, costs);
  EXPECT_THAT(ends_of(simulation, 0), ElementsAre(12, 13, 13, 14, 24, 25, 43));
  EXPECT_EQ(simulation.times[0].ready_us, 2);
  EXPECT_EQ(simulation.times[2].issued_us, 6);
  EXPECT_EQ(simulation.times[6].issued_us, 42);
  EXPECT_EQ(simulation.times[6].ready_us, 42);
}

// The host waits for the counts at 7, agrees until 12, and goes on queueing then.
TEST(Simulator, AHostOperationHoldsUpWhatIsQueuedAfterIt) {
  Schedule schedule =
      schedule_of(1, {operation_of(kRoute, kCompute), operation_of(kAgreeCapacity, kHost, 0, 0),
                      operation_of(kEncode, kCompute), operation_of(kDecode, kCompute)});
  const TestCosts costs([](const Schedule& s, std::size_t index, const RankLoad&) -> OperationCost {
    return {.duration_us = s.operations[index].kind == kDecode ? 1.0 : 5.0, .issue_us = 2};
  });
  const Simulation simulation = simulate(std::vector{SimulatedPass{&schedule}}, costs);
  EXPECT_THAT(ends_of(simulation, 0), ElementsAre(7, 12, 19, 20));
  EXPECT_EQ(simulation.times[2].ready_us, 14);
}

// Communication of the second pass begins after the compute that came before it, and compute of the second
// pass after the communication of the first, though no operation waits for either.
TEST(Simulator, PassesHaveTheExecutorsBorders) {
  const Schedule first =
      schedule_of(1, {operation_of(kGatherWeights, kCommunication, 1), operation_of(kEncode, kCompute)});
  const Schedule second =
      schedule_of(1, {operation_of(kDecode, kCompute), operation_of(kScatterGradients, kCommunication, 1)});
  const TestCosts costs({{kGatherWeights, 5}, {kEncode, 2}, {kDecode, 1}, {kScatterGradients, 3}});
  const Simulation simulation = simulate(std::vector<SimulatedPass>{{&first}, {&second}}, costs);
  EXPECT_THAT(ends_of(simulation, 0), ElementsAre(5, 2, 6, 8));
  const Simulation turned = simulate(std::vector<SimulatedPass>{{&second}, {&first}}, costs);
  EXPECT_THAT(ends_of(turned, 0), ElementsAre(1, 3, 8, 5));
}

// A route part is of the default plan, but belongs to the experts that follow.
TEST(Simulator, PassesHaveTheErrorsOfTheirPlans) {
  Schedule route = schedule_of(1, {operation_of(kRoute, kCompute)});
  route.part = Part::kRoute;
  const Schedule linear = schedule_of(1, {operation_of(kEncode, kCompute)});
  Schedule hierarchical = linear;
  hierarchical.plan.all_to_all = AllToAllAlgorithm::kHierarchical2d;
  TestCosts costs({{kRoute, 1}, {kEncode, 2}});
  costs.linear_error = 0.25;
  costs.hierarchical_error = 0.5;
  const std::vector<SimulatedPass> passes = {{&route}, {&hierarchical}, {&route}, {&linear}, {&route}};
  EXPECT_THAT(simulate(passes, costs).pass_errors, ElementsAre(0.5, 0.5, 0.25, 0.25, 0.25));
}

// The host waits for the routing, then for its own agreement; until then nothing more is queued, though the
// streams are free. What was queued before goes on.
TEST(Simulator, HostOperationsHoldUpWhatFollows) {
  const Schedule schedule = schedule_of(
      1, {operation_of(kRoute, kCompute), operation_of(kGateLossSums, kCompute),
          operation_of(kAgreeCapacity, kHost, 1, 0), operation_of(kGatherWeights, kCommunication, 1)});
  const TestCosts costs({{kRoute, 2}, {kGateLossSums, 9}, {kAgreeCapacity, 4}, {kGatherWeights, 1}});
  const Simulation simulation = simulate(std::vector{SimulatedPass{&schedule}}, costs);
  EXPECT_THAT(ends_of(simulation, 0), ElementsAre(2, 11, 6, 7));
}

// The host runs ahead: the next layer's first agreement does not wait for this layer's compute.
TEST(Simulator, HostRunsAheadOfItsStreams) {
  const Schedule layer =
      schedule_of(1, {operation_of(kAgreeTokens, kHost, 1), operation_of(kGate, kCompute)});
  const TestCosts costs({{kAgreeTokens, 1}, {kGate, 10}});
  const Simulation simulation = simulate(std::vector<SimulatedPass>{{&layer}, {&layer}}, costs);
  EXPECT_THAT(ends_of(simulation, 0), ElementsAre(1, 11, 2, 21));
}

// Rank 1 of four encodes for 10 instead of 1. In the node of two its neighbour waits for it; the other node
// does not, until the rails meet.
TEST(Simulator, ASlowRankDelaysItsPeersThroughCollectivesOnly) {
  const Schedule schedule = schedule_of(
      4, {operation_of(kEncode, kCompute), operation_of(kNodeAllToAll, kCommunication, 2, 0),
          operation_of(kRowsToExperts, kCompute), operation_of(kRailAllToAll, kCommunication, 2)});
  TestCosts costs([](const Schedule& s, std::size_t index, const RankLoad& load) -> OperationCost {
    const bool slow = s.operations[index].kind == kEncode && load.rank == 1;
    return {.duration_us = slow ? 10.0 : 1.0};
  });
  costs.differs = true;
  const Simulation simulation = simulate(std::vector{SimulatedPass{&schedule}}, costs);
  ASSERT_EQ(simulation.num_ranks, 4);
  EXPECT_THAT(ends_of(simulation, 0), ElementsAre(1, 11, 2, 12));
  EXPECT_THAT(ends_of(simulation, 1), ElementsAre(10, 11, 11, 12));
  EXPECT_THAT(ends_of(simulation, 2), ElementsAre(1, 2, 2, 12));
  EXPECT_THAT(ends_of(simulation, 3), ElementsAre(1, 2, 2, 12));
  EXPECT_EQ(simulation.times[simulation.at(0, 1)].ready_us, 1);
  EXPECT_EQ(simulation.times[simulation.at(0, 1)].begin_us, 10);
  EXPECT_EQ(simulation.times[simulation.at(0, 1)].last_rank, 1);
}

// Where overlap costs more than it saves, a later start can be faster. Rank 1 begins the exchange of 4 at 1
// or at 10; rank 0 computes for 10 meanwhile, and what follows waits for both. Together: from 1 to 13 the
// exchange takes 3 * 4, in which rank 0 does 4 of its 9, so it ends at 18. Apart: 10 and 14.
TEST(Simulator, ALaterStartCanBeFasterWithSlowdowns) {
  const Schedule schedule =
      schedule_of(2, {operation_of(kEncode, kCompute), operation_of(kAllToAll, kCommunication, 2, 0),
                      operation_of(kExpertFfn, kCompute)});
  const auto total_us = [&](double late) {
    TestCosts costs([=](const Schedule& s, std::size_t index, const RankLoad& load) -> OperationCost {
      if (s.operations[index].kind == kAllToAll) return {.duration_us = 4};
      if (s.operations[index].kind == kEncode) return {.duration_us = load.rank == 1 ? late : 0.0};
      return {.duration_us = load.rank == 0 ? 10.0 : 0.0};
    });
    costs.differs = true;
    costs.linear = {.compute = 3, .communication = 3};
    return simulate(std::vector{SimulatedPass{&schedule}}, costs).total_us;
  };
  EXPECT_DOUBLE_EQ(total_us(1), 18);
  EXPECT_DOUBLE_EQ(total_us(10), 14);
}

TEST(Simulator, ACollectiveTakesAsLongAsItsSlowestMember) {
  const Schedule schedule = schedule_of(4, {operation_of(kGatherWeights, kCommunication, 2)});
  TestCosts costs([](const Schedule&, std::size_t, const RankLoad& load) -> OperationCost {
    return {.duration_us = 1.0 + load.rank};
  });
  costs.differs = true;
  const Simulation simulation = simulate(std::vector{SimulatedPass{&schedule}}, costs);
  EXPECT_EQ(ends_of(simulation, 0), ends_of(simulation, 1));
  EXPECT_EQ(simulation.times[simulation.at(0, 0)].end_us, 2);
  EXPECT_EQ(simulation.times[simulation.at(2, 0)].end_us, 4);
}

const LayerStack kPlainLayer{.workload = {.world = 8,
                                          .num_experts = 16,
                                          .num_tokens = 64,
                                          .capacity = 64,
                                          .top_k = 2,
                                          .model_dim = 32,
                                          .hidden_dim = 64},
                             .forward = {},
                             .backward = {},
                             .cluster = {.nodes = 2, .ranks_per_node = 4}};

// Nothing can overlap in a forward pass of one chunk without weights to gather: the sum, added in order, to
// the last bit.
TEST(Simulator, OneChunkForwardIsTheSumOfItsOperations) {
  for (const char* plan : {"r1 d1 linear", "r1 d1 2dh"}) {
    LayerStack stack = kPlainLayer;
    stack.forward = parse_plan(plan);
    stack.passes = Passes::kForward;
    PassSequence sequence;
    sequence.build(stack);
    TestCosts costs = random_costs(7, false);
    costs.linear = costs.hierarchical = {.compute = 1.5, .communication = 1.5};
    double sum = 0;
    for (const SimulatedPass& pass : sequence.passes()) {
      for (std::size_t i = 0; i < pass.schedule->operations.size(); ++i) {
        sum += costs.cost(*pass.schedule, i, {}).duration_us;
      }
    }
    EXPECT_EQ(simulate(sequence.passes(), costs).total_us, sum) << plan;
  }
}

// A backward pass of one chunk: the gate's work runs beside the dispatch, the gradients of the weights beside
// the combine.
TEST(Simulator, OneChunkBackwardIsItsClosedForm) {
  LayerStack stack = kPlainLayer;
  stack.passes = Passes::kBackward;
  PassSequence sequence;
  sequence.build(stack);
  const std::vector<Operation>& operations = sequence.passes()[0].schedule->operations;
  const auto us_of = [](const Operation& operation) {
    return 1.0 + 7 * static_cast<int>(operation.kind) % 5 +
           (operation.direction == Direction::kCombine ? 8 : 0);
  };
  const TestCosts costs([&](const Schedule& schedule, std::size_t index, const RankLoad&) -> OperationCost {
    return {.duration_us = us_of(schedule.operations[index])};
  });
  double until_dispatched = 0;  // along compute
  double experts = 0, weights = 0, combine = 0, dispatch = 0, encode = 0, gate_reduce = 0;
  bool rows_are_back = false;
  for (const Operation& operation : operations) {
    const double us = us_of(operation);
    if (operation.kind == kAllToAll) {
      (operation.direction == Direction::kDispatch ? dispatch : combine) = us;
    } else if (operation.kind == kDecodeBackward) {
      until_dispatched = us;
    } else if (operation.kind == kReduceGateGradients) {
      gate_reduce = us;
    } else if (operation.kind == kEncodeBackward) {
      encode = us;
    } else if (operation.kind == kGateBackward) {
      dispatch = std::max(dispatch, us);
    } else {
      (rows_are_back ? weights : experts) += us;
      rows_are_back = rows_are_back || operation.kind == kRowsFromExperts;
    }
  }
  const double combined = until_dispatched + dispatch + experts;
  const double expected =
      std::max(combined + std::max(combine, weights) + encode, combined + combine + gate_reduce);
  EXPECT_EQ(simulate(sequence.passes(), costs).total_us, expected);
}

TEST(Simulator, WithFreeCommunicationAPipelinedPassIsItsCompute) {
  for (const Plan& plan : PlanSpace(kPlainLayer.workload, kPlainLayer.cluster).plans()) {
    LayerStack stack = kPlainLayer;
    stack.forward = stack.backward = plan;
    PassSequence sequence;
    sequence.build(stack);
    TestCosts costs([](const Schedule& schedule, std::size_t index, const RankLoad&) -> OperationCost {
      if (schedule.operations[index].stream != kCompute) return {};
      return {.duration_us = random_duration_us(11, schedule, index, 0)};
    });
    costs.linear = costs.hierarchical = {.compute = 2, .communication = 2};
    double compute = 0;
    for (const SimulatedPass& pass : sequence.passes()) {
      for (std::size_t i = 0; i < pass.schedule->operations.size(); ++i) {
        compute += costs.cost(*pass.schedule, i, {}).duration_us;
      }
    }
    EXPECT_EQ(simulate(sequence.passes(), costs).total_us, compute) << to_string(plan);
  }
}

TEST(Simulator, RunningAgainAllocatesNothing) {
  PhiloxStream random(5);
  std::vector<LayerStack> stacks;
  for (int i = 0; i < 20; ++i) stacks.push_back(random_stack(random));
  TestCosts costs = random_costs(5, true);
  costs.linear = {.compute = 1.2, .communication = 1.3};
  PassSequence sequence;
  Simulator simulator;
  const auto run_all = [&] {
    double sum = 0;
    for (const LayerStack& stack : stacks) {
      sequence.build(stack);
      sum += simulator.run(sequence.passes(), costs).total_us;
    }
    return sum;
  };
  const double first = run_all();
  const std::int64_t before = num_allocations();
  const double again = run_all();
  EXPECT_EQ(num_allocations() - before, 0);
  EXPECT_EQ(again, first);
}

TEST(Simulator, SaysWhatIsWrong) {
  const Schedule of_two = schedule_of(2, {operation_of(kEncode, kCompute)});
  const Schedule of_four = schedule_of(4, {operation_of(kNodeAllToAll, kCommunication, 3)});
  const auto error_of = [](std::vector<SimulatedPass> passes, const TestCosts& costs) {
    return message_of<InputError>([&] { static_cast<void>(simulate(passes, costs)); });
  };
  const TestCosts negative({{kEncode, -2}});
  EXPECT_EQ(error_of({{&of_two}}, negative),
            "the cost of encode on rank 0 is -2 us; it is finite and at least 0");
  TestCosts costs({{kEncode, 1}});
  EXPECT_EQ(error_of({{&of_two}, {&of_four}}, costs), "pass 1 is of 4 ranks, pass 0 of 2");
  EXPECT_EQ(error_of({{&of_four}}, costs), "node_all_to_all has groups of 3, which 4 ranks do not fill");
  costs.linear.compute = 0.5;
  EXPECT_EQ(error_of({{&of_two}}, costs),
            "the slowdown of overlap with linear is 0.5; it is finite and at least 1");
  costs.linear.compute = 1;
  costs.linear_error = -0.1;
  EXPECT_EQ(error_of({{&of_two}}, costs),
            "the error of passes with linear is -0.1; it is finite and at least 0");
}

}  // namespace
}  // namespace flex::testing
