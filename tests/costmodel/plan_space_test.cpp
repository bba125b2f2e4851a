#include "costmodel/plan_space.h"

#include <gmock/gmock.h>

#include <set>
#include <string>
#include <vector>

#include "tests/costmodel/cases.h"
#include "tests/support/count_allocations.h"

namespace flex::testing {
namespace {

using ::testing::ElementsAre;

Workload workload_of(int world, std::int64_t num_experts, std::int64_t capacity) {
  return {.world = world, .num_experts = num_experts, .capacity = capacity, .hidden_dim = 48};
}

Cluster nodes_of(int world, int ranks_per_node) {
  return {.nodes = world / ranks_per_node, .ranks_per_node = ranks_per_node};
}

std::vector<std::string> plans_of(const Workload& workload, int ranks_per_node) {
  std::vector<std::string> texts;
  for (const Plan& plan : PlanSpace(workload, nodes_of(workload.world, ranks_per_node)).plans()) {
    texts.push_back(to_string(plan));
  }
  return texts;
}

std::size_t count_of(int world, std::int64_t num_experts, std::int64_t capacity, int ranks_per_node) {
  return plans_of(workload_of(world, num_experts, capacity), ranks_per_node).size();
}

TEST(PlanSpace, ParallelDegreesAreZeroAndTheDivisors) {
  EXPECT_THAT(PlanSpace::parallel_degrees(workload_of(4, 4, 8)), ElementsAre(0, 1));
  EXPECT_THAT(PlanSpace::parallel_degrees(workload_of(4, 16, 8)), ElementsAre(0, 1));
  EXPECT_THAT(PlanSpace::parallel_degrees(workload_of(4, 1, 8)), ElementsAre(0, 1, 2, 4));
  EXPECT_THAT(PlanSpace::parallel_degrees(workload_of(6, 1, 8)), ElementsAre(0, 1, 2, 3, 6));
  EXPECT_THAT(PlanSpace::parallel_degrees(workload_of(1, 1, 8)), ElementsAre(0, 1));
}

// s = 1: no shards to spread, all of d. s = 2: a part of the 8 slots has 4 at r = 1 and 8 at r = 2.
TEST(PlanSpace, ListsLegalPlansInOrder) {
  EXPECT_THAT(plans_of(workload_of(2, 2, 8), 2),
              ElementsAre("r0 d1 linear", "r1 d1 linear", "r1 d1 2dh", "r1 d2 linear", "r1 d2 2dh",
                          "r1 d4 linear", "r1 d4 2dh", "r1 d8 linear", "r1 d8 2dh"));
  EXPECT_THAT(
      plans_of(workload_of(4, 2, 3), 2),
      ElementsAre("r0 d1 linear", "r1 d1 linear", "r1 d1 2dh", "r1 d2 linear", "r1 d2 2dh", "r2 d1 linear",
                  "r2 d1 2dh", "r2 d2 linear", "r2 d2 2dh", "r2 d4 linear", "r2 d4 2dh"));
}

TEST(PlanSpace, CountsAreThoseWorkedByHand) {
  EXPECT_EQ(count_of(4, 4, 16, 2), 1U + 2 * 4);  // s = 1
  EXPECT_EQ(count_of(2, 8, 3, 2), 1U + 2 * 2);   // several experts a rank, 3 slots: d 1 and 2
  // s = 4, C 6 rounded up to 8: parts of 2, 4 and 8 slots at r = 1, 2 and 4.
  EXPECT_EQ(count_of(4, 1, 6, 2), 1U + 2 * (2 + 3 + 4));
  // s = 6: parts of 1, 2, 3 and 6 slots at r = 1, 2, 3 and 6.
  EXPECT_EQ(count_of(6, 1, 6, 2), 1U + 2 * (1 + 2 + 2 + 3));
  // s = 2, C 5 rounded up to 6: parts of 3 and 6 slots.
  EXPECT_EQ(count_of(6, 3, 5, 3), 1U + 2 * (2 + 3));
  EXPECT_EQ(count_of(1, 4, 8, 1), 1U + 2 * 4);  // one rank alone
}

TEST(PlanSpace, NodesThatAreNotWholeLeaveLinear) {
  EXPECT_EQ(count_of(6, 1, 6, 4), 1U + (1 + 2 + 2 + 3));
  const Workload workload = workload_of(4, 4, 8);
  for (const std::string& text : plans_of(workload, 3)) EXPECT_EQ(text.find("2dh"), std::string::npos);
}

TEST(PlanSpace, WithoutSlotsNothingIsPipelined) {
  EXPECT_THAT(plans_of(workload_of(4, 2, 0), 2),
              ElementsAre("r0 d1 linear", "r1 d1 linear", "r1 d1 2dh", "r2 d1 linear", "r2 d1 2dh"));
}

TEST(PlanSpace, DataParallelHasOnePlanAndTheDefaultIsAlwaysThere) {
  for (const Case& one : all_cases()) {
    const std::vector<Plan> plans = PlanSpace(one.workload, one.cluster).plans();
    // One for each expert kernel; counted experts only where the counts reach the host.
    EXPECT_EQ(std::ranges::count(plans, 0, &Plan::parallel_degree), one.workload.dropless ? 2 : 1) << one;
    EXPECT_EQ(std::ranges::count(plans, kDefaultPlan), 1) << one;
    EXPECT_TRUE(std::ranges::is_sorted(plans)) << one;
  }
}

TEST(PlanSpace, CountedExpertsNeedDroplessRouting) {
  Workload workload = workload_of(4, 2, 0);
  const auto padded = plans_of(workload, 2);
  for (const std::string& text : padded) EXPECT_EQ(text.find("counted"), std::string::npos);
  workload.dropless = true;
  EXPECT_THAT(plans_of(workload, 2),
              ElementsAre("r0 d1 linear", "r0 d1 linear counted", "r1 d1 linear", "r1 d1 linear counted",
                          "r1 d1 2dh", "r1 d1 2dh counted", "r2 d1 linear", "r2 d1 linear counted",
                          "r2 d1 2dh", "r2 d1 2dh counted"));
}

std::string reason(const char* plan, const Workload& workload, int ranks_per_node = 2) {
  return why_illegal(parse_plan(plan), workload, nodes_of(workload.world, ranks_per_node)).value_or("legal");
}

TEST(PlanSpace, SaysWhyAPlanIsIllegal) {
  EXPECT_EQ(reason("r1 counted", workload_of(4, 1, 8)),
            "counted experts need the counts on the host, which they reach only with dropless routing (f <= "
            "0); use padded");
  const Workload quad = workload_of(4, 1, 8);
  EXPECT_EQ(reason("r4 d8 2dh", quad), "legal");
  EXPECT_EQ(reason("r3", quad), "r3 does not divide the 4 rank(s) that share an expert; use r 0, 1, 2 or 4");
  EXPECT_EQ(reason("r8", quad), "r8 does not divide the 4 rank(s) that share an expert; use r 0, 1, 2 or 4");
  EXPECT_EQ(reason("r2", workload_of(4, 4, 8)),
            "r2 does not divide the 1 rank(s) that share an expert; use r 0 or 1");
  const std::string data_parallel =
      "r0 exchanges no tokens, so there is nothing to pipeline and no All-to-All to choose; use r0 d1 linear";
  EXPECT_EQ(reason("r0 d2", quad), data_parallel);
  EXPECT_EQ(reason("r0 2dh", quad), data_parallel);
  EXPECT_EQ(reason("r1 d3", quad), "pipeline degree 3 is not 1, 2, 4 or 8");
  EXPECT_EQ(reason("r1 d4", quad),
            "4 pipeline parts are more than the 2 slot(s) that a rank gets from each source; use d1 or a "
            "smaller d");
  EXPECT_EQ(reason("r1 d2", workload_of(4, 1, 0)),
            "2 pipeline parts are more than the 0 slot(s) that a rank gets from each source; use d1");
  EXPECT_EQ(reason("r1 d2", workload_of(4, 1, 3)),
            "2 pipeline parts are more than the 1 slot(s) that a rank gets from each source; use d1");
  EXPECT_EQ(reason("r1 2dh", quad, 3),
            "2dh needs whole nodes, and 4 ranks do not fill nodes of 3; use linear");
}

TEST(PlanSpace, NegativeDegreesAreIllegal) {
  const Workload workload = workload_of(4, 1, 8);
  EXPECT_FALSE(is_legal({.parallel_degree = -1}, workload, nodes_of(4, 2)));
  EXPECT_FALSE(is_legal({.pipeline_degree = 0}, workload, nodes_of(4, 2)));
  EXPECT_FALSE(is_legal({.pipeline_degree = -2}, workload, nodes_of(4, 2)));
}

// Every plan in reach: legal exactly if listed, and with words exactly if not.
TEST(PlanSpace, LegalMeansListedAndIllegalHasAReason) {
  for (const Case& one : all_cases()) {
    const std::vector<Plan> plans = PlanSpace(one.workload, one.cluster).plans();
    const std::set<Plan> listed(plans.begin(), plans.end());
    for (std::int32_t r = 0; r <= 9; ++r) {
      for (std::int32_t d = 0; d <= 9; ++d) {
        for (const auto algorithm : {AllToAllAlgorithm::kLinear, AllToAllAlgorithm::kHierarchical2d}) {
          const Plan plan{r, d, algorithm};
          const bool legal = is_legal(plan, one.workload, one.cluster);
          ASSERT_EQ(legal, listed.contains(plan)) << one << ", " << to_string(plan);
          ASSERT_EQ(legal, !why_illegal(plan, one.workload, one.cluster)) << one << ", " << to_string(plan);
        }
      }
    }
  }
}

TEST(PlanSpace, IsLegalAllocatesNothing) {
  const Workload workload = workload_of(4, 1, 8);
  const Cluster cluster = nodes_of(4, 2);
  int legal = 0;
  const std::int64_t before = num_allocations();
  for (std::int32_t r = 0; r < 8; ++r) legal += is_legal({.parallel_degree = r}, workload, cluster) ? 1 : 0;
  EXPECT_EQ(num_allocations() - before, 0);
  EXPECT_EQ(legal, 4);
}

}  // namespace
}  // namespace flex::testing
