#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>

#include "costmodel/build_schedule.h"
#include "costmodel/traffic.h"
#include "tests/costmodel/cases.h"
#include "tests/support/count_allocations.h"

/// What holds for every schedule of every plan in the grid of cases.
namespace flex::testing {
namespace {

using enum OperationKind;

bool is_exchange(OperationKind kind) {
  return kind == kAllToAll || kind == kNodeAllToAll || kind == kRailAllToAll;
}

TEST(ScheduleInvariants, WaitsPointBackwardToOtherStreams) {
  for (const Part part : {Part::kRoute, Part::kExpert}) {
    for_all_schedules(part, [](const Case&, const Schedule& schedule) {
      for (std::size_t i = 0; i < schedule.operations.size(); ++i) {
        const Operation& operation = schedule.operations[i];
        for (const std::int16_t wait : operation.waits_for()) {
          ASSERT_GE(wait, 0);
          ASSERT_LT(static_cast<std::size_t>(wait), i);
          EXPECT_NE(schedule.operations[static_cast<std::size_t>(wait)].stream, operation.stream);
        }
      }
    });
  }
}

StreamKind stream_for(OperationKind kind) {
  switch (kind) {
    case kAgreeTokens:
    case kAgreeCapacity:
      return StreamKind::kHost;
    case kReduceGateLoss:
    case kGatherWeights:
    case kAllToAll:
    case kNodeCopy:
    case kNodeAllToAll:
    case kRailCopy:
    case kRailAllToAll:
    case kScatterGradients:
    case kReduceGateGradients:
      return StreamKind::kCommunication;
    default:
      return StreamKind::kCompute;
  }
}

TEST(ScheduleInvariants, KindsHaveTheirStream) {
  for (const Part part : {Part::kRoute, Part::kExpert}) {
    for_all_schedules(part, [](const Case&, const Schedule& schedule) {
      for (const Operation& operation : schedule.operations) {
        EXPECT_EQ(operation.stream, stream_for(operation.kind)) << label(operation);
      }
    });
  }
}

TEST(ScheduleInvariants, ChunksCoverAllSlotsOnce) {
  for_all_schedules(Part::kExpert, [](const Case&, const Schedule& schedule) {
    struct Cover {
      std::int64_t end = 0;
      std::int64_t least = 0;
      std::int64_t most = 0;
      std::int32_t chunks = 0;
    };
    std::map<std::pair<OperationKind, Direction>, Cover> covers;
    const PlanShape shape = plan_shape(schedule.workload, schedule.plan);
    for (const Operation& operation : schedule.operations) {
      const bool chunked = operation.direction != Direction::kNone || operation.kind == kExpertFfn ||
                           operation.kind == kExpertFfnBackwardData;
      ASSERT_EQ(operation.num_chunks, chunked ? schedule.plan.pipeline_degree : 1) << label(operation);
      if (!chunked) continue;
      Cover& cover = covers[{operation.kind, operation.direction}];
      const std::int64_t slots = operation.size.slots;
      EXPECT_EQ(operation.chunk, cover.chunks) << label(operation);
      EXPECT_EQ(operation.size.slot_begin, cover.end) << label(operation);
      cover.least = cover.chunks == 0 ? slots : std::min(cover.least, slots);
      cover.most = std::max(cover.most, slots);
      cover.end += slots;
      ++cover.chunks;
    }
    for (const auto& [kind, cover] : covers) {
      EXPECT_EQ(cover.chunks, schedule.plan.pipeline_degree) << name(kind.first);
      EXPECT_EQ(cover.end, shape.part_slots) << name(kind.first);
      EXPECT_LE(cover.most - cover.least, 1) << name(kind.first);
    }
  });
}

// What the schedule's collectives move, by purpose.
void add_traffic(const Schedule& schedule, TrafficBytes& bytes) {
  for (const Operation& operation : schedule.operations) {
    const bool dispatch = operation.direction == Direction::kDispatch;
    std::optional<Traffic> traffic;
    if (operation.kind == kNodeAllToAll)
      traffic = dispatch ? Traffic::kDispatchIntra : Traffic::kCombineIntra;
    if (operation.kind == kAllToAll || operation.kind == kRailAllToAll)
      traffic = dispatch ? Traffic::kDispatch : Traffic::kCombine;
    if (operation.kind == kGatherWeights) traffic = Traffic::kWeights;
    if (operation.kind == kScatterGradients) traffic = Traffic::kGradients;
    if (operation.kind == kReduceGateLoss || operation.kind == kReduceGateGradients) traffic = Traffic::kGate;
    if (traffic) bytes[static_cast<std::size_t>(*traffic)] += operation.size.bytes;
  }
}

TEST(ScheduleInvariants, CollectivesMoveTheExpectedTraffic) {
  for_all_schedules(Part::kExpert, [](const Case& one, const Schedule& schedule) {
    TrafficBytes bytes{};
    add_traffic(schedule, bytes);
    if (one.workload.pass == Pass::kForward) {
      add_traffic(build_schedule(Part::kRoute, one.workload, schedule.plan, one.cluster), bytes);
    }
    const TrafficBytes expected = expected_traffic(one.workload, schedule.plan);
    for (int i = 0; i < kNumTraffic; ++i) {
      const auto index = static_cast<std::size_t>(i);
      EXPECT_EQ(bytes[index], expected[index]) << name(static_cast<Traffic>(i));
    }
  });
}

TEST(ScheduleInvariants, CollectivesHavePeersAndSplitTheirBytes) {
  for_all_schedules(Part::kExpert, [](const Case& one, const Schedule& schedule) {
    for (const Operation& operation : schedule.operations) {
      const OperationSize& size = operation.size;
      if (is_exchange(operation.kind) || operation.kind == kGatherWeights ||
          operation.kind == kScatterGradients) {
        EXPECT_EQ(size.bytes, size.peers * size.bytes_per_peer) << label(operation);
      }
      if (operation.kind == kNodeAllToAll) {
        EXPECT_EQ(size.peers, one.cluster.ranks_per_node);
      }
      if (operation.kind == kRailAllToAll) {
        EXPECT_EQ(size.peers, one.cluster.nodes);
      }
      if (stream_for(operation.kind) == StreamKind::kCompute) {
        EXPECT_EQ(size.peers, 0) << label(operation);
      }
    }
  });
}

// E * C rows of every source rank are multiplied once, whatever r and d; backward has two products for each
// of the forward pass. All terms are whole numbers far below 2^53: the sums are exact.
TEST(ScheduleInvariants, PlansShareTheSameProducts) {
  for_all_schedules(Part::kExpert, [](const Case&, const Schedule& schedule) {
    const Workload& w = schedule.workload;
    const std::int64_t matrices = w.ffn == FfnKind::kGated ? 3 : 2;
    const std::int64_t rows = w.num_experts * w.padded_capacity();
    const std::int64_t products = w.pass == Pass::kForward ? 1 : 2;
    double flops = 0;
    for (const Operation& operation : schedule.operations) {
      if (operation.kind == kExpertFfn || operation.kind == kExpertFfnBackwardData ||
          operation.kind == kExpertFfnBackwardFc1 || operation.kind == kExpertFfnBackwardFc2) {
        flops += operation.size.flops;
      }
    }
    EXPECT_EQ(flops, static_cast<double>(products * matrices * 2 * rows * w.model_dim * w.hidden_dim));
  });
}

TEST(ScheduleInvariants, RouteDoesNotDependOnThePlan) {
  Schedule first;
  for_all_schedules(Part::kRoute, [&first](const Case& one, const Schedule& schedule) {
    build_schedule_into(first, Part::kRoute, one.workload, kDefaultPlan, one.cluster);
    EXPECT_EQ(schedule.operations, first.operations);
  });
}

TEST(ScheduleInvariants, SameInputGivesTheSameSchedule) {
  for_all_schedules(Part::kExpert, [](const Case& one, const Schedule& reused) {
    const Schedule again = build_schedule(Part::kExpert, one.workload, reused.plan, one.cluster);
    EXPECT_EQ(again.operations, reused.operations);
    EXPECT_EQ(again.workload, reused.workload);
    EXPECT_EQ(again.plan, reused.plan);
  });
}

TEST(ScheduleInvariants, BuildingAgainAllocatesNothing) {
  const Case one = {{.world = 8, .num_experts = 2, .capacity = 32, .top_k = 2, .hidden_dim = 48}, {4, 2}};
  const std::vector<Plan> plans = PlanSpace(one.workload, one.cluster).plans();
  Schedule schedule;
  const auto build_all = [&] {
    for (const Plan& plan : plans) {
      for (const Part part : {Part::kRoute, Part::kExpert}) {
        build_schedule_into(schedule, part, one.workload, plan, one.cluster);
      }
    }
  };
  build_all();
  const std::int64_t before = num_allocations();
  build_all();
  EXPECT_EQ(num_allocations() - before, 0);
  EXPECT_FALSE(schedule.operations.empty());
}

}  // namespace
}  // namespace flex::testing
