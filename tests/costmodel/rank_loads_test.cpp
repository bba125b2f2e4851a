#include "costmodel/rank_loads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "costmodel/plan_space.h"
#include "tests/base/expect_error.h"

namespace flex::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

constexpr Cluster kOneNode{.nodes = 1, .ranks_per_node = 4};

std::vector<std::int64_t> rows_of(RankLoads& loads, int rank, const Operation& operation) {
  const RankLoad load = loads.of(rank, operation);
  return {load.expert_rows.begin(), load.expert_rows.end()};
}

std::vector<Operation> products_of(const Schedule& schedule) {
  std::vector<Operation> products;
  for (const Operation& operation : schedule.operations) {
    if (operation.kind == OperationKind::kExpertFfn) products.push_back(operation);
  }
  return products;
}

TEST(RankLoads, WithoutCountsAllRanksAreAlike) {
  const Workload workload{.world = 4, .num_experts = 4, .num_tokens = 9, .capacity = 8, .dropless = true};
  const Schedule schedule = build_schedule(Part::kExpert, workload, parse_plan("r1 d1 counted"), kOneNode);
  RankLoads loads;
  loads.bind(schedule, {});
  for (int rank = 0; rank < 4; ++rank) {
    for (const Operation& operation : schedule.operations) {
      const RankLoad load = loads.of(rank, operation);
      EXPECT_EQ(load.rank, rank);
      EXPECT_EQ(load.num_tokens, 9);
      EXPECT_THAT(load.expert_rows, IsEmpty());
    }
  }
}

// Two ranks with two experts each, capacity 4 in two chunks of 2: one expert of each has 4 choices from each
// source, the other 1.
TEST(RankLoads, AUsualCountIsOfAllExpertsButOne) {
  const Workload workload{.world = 2, .num_experts = 4, .num_tokens = 7, .capacity = 4, .dropless = true};
  const Cluster cluster{.nodes = 1, .ranks_per_node = 2};
  const Schedule schedule = build_schedule(Part::kExpert, workload, parse_plan("r1 d2 counted"), cluster);
  const std::vector<Operation> products = products_of(schedule);
  RankLoads loads;
  loads.bind(schedule, {}, 1);
  for (int rank = 0; rank < 2; ++rank) {
    EXPECT_THAT(rows_of(loads, rank, products[0]), ElementsAre(4, 2));
    EXPECT_THAT(rows_of(loads, rank, products[1]), ElementsAre(4, 0));
    EXPECT_EQ(loads.of(rank, products[0]).num_tokens, 7);
  }
}

// Two ranks with two experts each, capacity 4 in two chunks of 2. The largest counts are 3, 1, 4 and 0.
TEST(RankLoads, CountedExpertsComputeTheSlotsThatAnySourceReaches) {
  const Workload workload{.world = 2, .num_experts = 4, .num_tokens = 6, .capacity = 4, .dropless = true};
  const Cluster cluster{.nodes = 1, .ranks_per_node = 2};
  const std::vector<std::int64_t> counts = {3, 0, 2, 0,   // rank 0: 5 tokens
                                            1, 1, 4, 0};  // rank 1: 6 tokens
  const Schedule schedule = build_schedule(Part::kExpert, workload, parse_plan("r1 d2 counted"), cluster);
  const std::vector<Operation> products = products_of(schedule);
  ASSERT_EQ(products.size(), 2U);
  RankLoads loads;
  loads.bind(schedule, counts);
  EXPECT_THAT(rows_of(loads, 0, products[0]), ElementsAre(4, 2));
  EXPECT_THAT(rows_of(loads, 0, products[1]), ElementsAre(2, 0));
  EXPECT_THAT(rows_of(loads, 1, products[0]), ElementsAre(4, 0));
  EXPECT_THAT(rows_of(loads, 1, products[1]), ElementsAre(4, 0));
  EXPECT_EQ(loads.of(0, products[0]).num_tokens, 5);
  EXPECT_EQ(loads.of(1, products[0]).num_tokens, 6);
  EXPECT_THAT(loads.of(0, schedule.operations[0]).expert_rows, IsEmpty()) << "only products have rows";

  const Schedule padded = build_schedule(Part::kExpert, workload, parse_plan("r1 d2"), cluster);
  loads.bind(padded, counts);
  EXPECT_THAT(loads.of(0, products_of(padded)[0]).expert_rows, IsEmpty()) << "padded experts compute all";
}

// r0: every rank computes all experts over its own choices.
TEST(RankLoads, DataParallelExpertsComputeTheirOwnTokens) {
  const Workload workload{.world = 2, .num_experts = 2, .num_tokens = 6, .capacity = 4, .dropless = true};
  const std::vector<std::int64_t> counts = {6, 0, 1, 3};
  const Schedule schedule =
      build_schedule(Part::kExpert, workload, parse_plan("r0 counted"), {.nodes = 1, .ranks_per_node = 2});
  RankLoads loads;
  loads.bind(schedule, counts);
  EXPECT_THAT(rows_of(loads, 0, products_of(schedule)[0]), ElementsAre(4, 0)) << "at most the capacity";
  EXPECT_THAT(rows_of(loads, 1, products_of(schedule)[0]), ElementsAre(1, 3));
}

// Four ranks share one expert of capacity 8 at r = 1: rank i takes slots 2i and 2i + 1 of each source. The
// largest count is 5.
TEST(RankLoads, PartsOfASharedExpertFillFromTheFirst) {
  const Workload workload{.world = 4,
                          .num_experts = 1,
                          .num_tokens = 5,
                          .capacity = 8,
                          .hidden_dim = 4,
                          .pass = Pass::kBackward,
                          .dropless = true};
  const std::vector<std::int64_t> counts = {5, 1, 0, 2};
  const Schedule schedule = build_schedule(Part::kExpert, workload, parse_plan("r1 d1 counted"), kOneNode);
  RankLoads loads;
  loads.bind(schedule, counts);
  for (const Operation& operation : schedule.operations) {
    if (operation.size.batch != 1 || operation.kind == OperationKind::kGateBackward) continue;
    std::vector<std::int64_t> rows;
    for (int rank = 0; rank < 4; ++rank) rows.push_back(rows_of(loads, rank, operation).at(0));
    EXPECT_THAT(rows, ElementsAre(8, 8, 4, 0)) << label(operation);
  }
}

TEST(RankLoads, SaysWhatIsWrong) {
  const Workload workload{.world = 2, .num_experts = 2, .num_tokens = 3, .capacity = 4, .top_k = 2};
  const Schedule schedule = build_schedule(Part::kExpert, workload, kDefaultPlan, kOneNode);
  const auto error_of = [&](std::vector<std::int64_t> counts) {
    RankLoads loads;
    return message_of<InputError>([&] { loads.bind(schedule, counts); });
  };
  EXPECT_EQ(error_of({1, 2, 3}), "3 counts; 2 ranks with 2 experts have 4");
  EXPECT_EQ(error_of({1, 1, 3, -1}), "counts of rank 1: expert 1 has -1; a count is zero or more");
  EXPECT_EQ(error_of({1, 1, 1, 2}), "counts of rank 1: 3 choices are no multiple of top_k 2");
  EXPECT_EQ(error_of({4, 4, 0, 0}), "counts of rank 0: 4 tokens are more than the workload's 3");
}

}  // namespace
}  // namespace flex::testing
