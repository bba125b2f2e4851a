#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "costmodel/critical_path.h"
#include "costmodel/simulation_spans.h"
#include "costmodel/stream_use.h"
#include "tests/costmodel/simulator_cases.h"
#include "tests/support/count_allocations.h"

/// Critical path, error band, idle time and spans, worked by hand.
namespace flex::testing {
namespace {

using enum OperationKind;
using enum StreamKind;
using ::testing::ElementsAre;

constexpr auto kComputeStream = static_cast<std::size_t>(kCompute);
constexpr auto kCommunicationStream = static_cast<std::size_t>(kCommunication);
constexpr auto kHostStream = static_cast<std::size_t>(kHost);

// Two ranks. Rank 0 encodes for 2, rank 1 for 5; dispatch 3; experts 4, then rows 1 beside nothing.
struct TwoRanks {
  Schedule schedule{
      .workload = {.world = 2, .num_experts = 2},
      .operations = {operation_of(kEncode, kCompute), operation_of(kAllToAll, kCommunication, 2, 0),
                     operation_of(kExpertFfn, kCompute, 0, 1), operation_of(kRowsFromExperts, kCompute)}};
  Simulation simulation;

  TwoRanks() {
    TestCosts costs([](const Schedule& s, std::size_t index, const RankLoad& load) -> OperationCost {
      switch (s.operations[index].kind) {
        case kEncode:
          return {load.rank == 0 ? 2.0 : 5.0, CostOrigin::kMeasured, 0.1};
        case kAllToAll:
          return {3, CostOrigin::kInterpolated, 0.2};
        case kExpertFfn:
          return {4, CostOrigin::kRoofline, 0.5};
        default:
          return {1, CostOrigin::kRoofline, 0.3};
      }
    });
    costs.differs = true;
    simulation = simulate(std::vector{SimulatedPass{&schedule}}, costs);
  }
};

// Encode is queued at 3 and ends at 4, the copy at 6 and 7, decode at 9 and 10: the device waits 3 + 2 + 2
// us.
TEST(CriticalPath, TimeInWhichTheHostQueuesIsNobodys) {
  const Schedule schedule{.operations = {operation_of(kEncode, kCompute),
                                         operation_of(kAllToAll, kCommunication, 1, 0),
                                         operation_of(kDecode, kCompute, 0, 1)}};
  const TestCosts costs([](const Schedule&, std::size_t, const RankLoad&) -> OperationCost {
    return {.duration_us = 1, .issue_us = 3};
  });
  const Simulation simulation = simulate(std::vector{SimulatedPass{&schedule}}, costs);
  const CriticalPath path = critical_path(simulation);
  EXPECT_EQ(simulation.total_us, 10);
  EXPECT_EQ(path.steps.size(), 3U);
  EXPECT_EQ(path.issue_us, 7);
  EXPECT_EQ(path.of(kEncode) + path.of(kAllToAll) + path.of(kDecode), 3);
  const RankUse use = stream_use(simulation, 0);
  EXPECT_EQ(use[kComputeStream].idle_us[static_cast<std::size_t>(IdleCause::kHost)], 8);  // 3, and 4 to 9
  EXPECT_EQ(use[kCommunicationStream].idle_us[static_cast<std::size_t>(IdleCause::kHost)], 6);
}

TEST(CriticalPath, GoesThroughTheLastMemberOfACollective) {
  const TwoRanks two;
  const CriticalPath path = critical_path(two.simulation);
  using Step = CriticalPath::Step;
  EXPECT_THAT(path.steps, ElementsAre(Step{1, 0}, Step{1, 1}, Step{0, 2}, Step{0, 3}));
  EXPECT_EQ(two.simulation.total_us, 13);
  EXPECT_EQ(path.of(kEncode), 5);
  EXPECT_EQ(path.of(kAllToAll), 3);
  EXPECT_EQ(path.of(kExpertFfn), 4);
  EXPECT_EQ(path.of(kRowsFromExperts), 1);
  EXPECT_THAT(path.origin_us, ElementsAre(5, 3, 5));
}

TEST(CriticalPath, ErrorsAddUpWithinAKindAndAsSquaresBetweenKinds) {
  const TwoRanks two;
  EXPECT_DOUBLE_EQ(critical_path(two.simulation).error_us,
                   std::sqrt(0.5 * 0.5 + 0.6 * 0.6 + 2.0 * 2.0 + 0.3 * 0.3));

  const Schedule chunks{.operations = {operation_of(kExpertFfn, kCompute), operation_of(kExpertFfn, kCompute),
                                       operation_of(kDecode, kCompute)}};
  const TestCosts costs([](const Schedule&, std::size_t, const RankLoad&) -> OperationCost {
    return {.duration_us = 10, .relative_error = 0.1};
  });
  EXPECT_DOUBLE_EQ(critical_path(simulate(std::vector{SimulatedPass{&chunks}}, costs)).error_us,
                   std::sqrt(2.0 * 2.0 + 1.0 * 1.0));
}

// encode 10 at 10%, then 30 of a pass with 2DH at nothing: 1 of operations beside 0.2 * 10 + 0.5 * 30 = 17 of
// passes, whose errors are one error and add up.
TEST(CriticalPath, ErrorsOfPassesAreOneMoreIndependentError) {
  const Schedule linear{.operations = {operation_of(kEncode, kCompute)}};
  const Schedule hierarchical{.plan = parse_plan("r1 d1 2dh"),
                              .operations = {operation_of(kDecode, kCompute)}};
  TestCosts costs([](const Schedule& s, std::size_t index, const RankLoad&) -> OperationCost {
    const bool encode = s.operations[index].kind == kEncode;
    return {.duration_us = encode ? 10.0 : 30.0, .relative_error = encode ? 0.1 : 0};
  });
  const std::vector<SimulatedPass> passes = {{&linear}, {&hierarchical}};
  EXPECT_DOUBLE_EQ(critical_path(simulate(passes, costs)).error_us, 1);
  costs.linear_error = 0.2;
  costs.hierarchical_error = 0.5;
  EXPECT_DOUBLE_EQ(critical_path(simulate(passes, costs)).error_us, std::sqrt(1 + 17.0 * 17.0));
}

TEST(CriticalPath, FindingItAgainAllocatesNothing) {
  const TwoRanks two;
  CriticalPath path;
  find_critical_path_into(path, two.simulation);
  const std::int64_t before = num_allocations();
  find_critical_path_into(path, two.simulation);
  EXPECT_EQ(num_allocations() - before, 0);
  EXPECT_EQ(path.steps.size(), 4U);
}

TEST(CriticalPath, OfNothingIsEmpty) {
  const CriticalPath path = critical_path({});
  EXPECT_TRUE(path.steps.empty());
  EXPECT_EQ(path.error_us, 0);
}

// Rank 0 waits until 2 for its encode, until 5 for rank 1, and is done at 8; its compute waits from 2 to 8.
TEST(StreamUse, SaysWhatAStreamWaitsFor) {
  const TwoRanks two;
  const RankUse use = stream_use(two.simulation, 0);
  EXPECT_EQ(use[kComputeStream].busy_us, 7);
  EXPECT_THAT(use[kComputeStream].idle_us, ElementsAre(0, 0, 6, 0, 0));
  EXPECT_EQ(use[kCommunicationStream].busy_us, 3);
  EXPECT_THAT(use[kCommunicationStream].idle_us, ElementsAre(0, 2, 0, 3, 5));
  EXPECT_EQ(use[kHostStream].busy_us, 0);
  EXPECT_THAT(use[kHostStream].idle_us, ElementsAre(0, 0, 0, 0, 13));
}

// route 2, then the host agrees for 3 and only then queues encode 1: compute waits for the host, the host
// for compute.
TEST(StreamUse, TheHostIsACause) {
  const Schedule schedule{.operations = {operation_of(kRoute, kCompute),
                                         operation_of(kAgreeCapacity, kHost, 1, 0),
                                         operation_of(kEncode, kCompute)}};
  const TestCosts costs({{kRoute, 2}, {kAgreeCapacity, 3}, {kEncode, 1}});
  const RankUse use = stream_use(simulate(std::vector{SimulatedPass{&schedule}}, costs), 0);
  EXPECT_EQ(use[kComputeStream].idle(IdleCause::kHost), 3);
  EXPECT_EQ(use[kHostStream].idle(IdleCause::kCompute), 2);
  EXPECT_EQ(use[kHostStream].idle(IdleCause::kEnd), 1);
}

TEST(StreamUse, CausesHaveNames) {
  EXPECT_EQ(name(IdleCause::kHost), "host");
  EXPECT_EQ(name(IdleCause::kCompute), "compute");
  EXPECT_EQ(name(IdleCause::kCommunication), "communication");
  EXPECT_EQ(name(IdleCause::kPeer), "peer");
  EXPECT_EQ(name(IdleCause::kEnd), "end");
}

TEST(SimulationSpans, AreTheTimelineInNanoseconds) {
  TwoRanks two;
  two.simulation.operations[2].operation.chunk = 1;
  two.simulation.operations[2].operation.num_chunks = 4;
  two.simulation.operations[2].operation.size.bytes = 77;
  two.simulation.operations[2].operation.size.flops = 1e9;
  two.simulation.times[2].begin_us = 8.0004;  // rounds down to 8000 ns
  const std::vector<Span> spans = spans_of(two.simulation, "what if");
  ASSERT_EQ(spans.size(), 8U);
  EXPECT_EQ(spans[2], (Span{.name = "expert_ffn#2of4",
                            .process_group = "what if",
                            .rank = 0,
                            .stream = "compute",
                            .begin_ns = 8000,
                            .end_ns = 12000,
                            .pass = 0,
                            .operation = 2,
                            .chunk = 1,
                            .bytes = 77,
                            .flops = 1e9,
                            .origin = "roofline"}));
  EXPECT_EQ(spans[5].rank, 1);
  EXPECT_EQ(spans[5].stream, "communication");
  EXPECT_EQ(spans[5].begin_ns, 5000);
  EXPECT_EQ(spans[5].chunk, -1) << "not split";
  EXPECT_EQ(spans[5].origin, "interpolated");
}

}  // namespace
}  // namespace flex::testing
