#include "costmodel/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <unordered_set>
#include <vector>

#include "tests/support/compare.h"

namespace flex::testing {
namespace {

constexpr auto kLinear = AllToAllAlgorithm::kLinear;
constexpr auto kHierarchical2d = AllToAllAlgorithm::kHierarchical2d;

// In ascending order.
std::vector<Plan> plan_grid() {
  std::vector<Plan> plans;
  for (std::int32_t r = 0; r <= 64; ++r) {
    for (std::int32_t d = 1; d <= 32; ++d) {
      for (const auto algorithm : {kLinear, kHierarchical2d}) {
        for (const auto kernel : {ExpertKernel::kPadded, ExpertKernel::kCounted})
          plans.push_back({r, d, algorithm, kernel});
      }
    }
  }
  return plans;
}

TEST(Plan, PrintsWhatItParses) {
  for (const Plan& plan : plan_grid()) EXPECT_EQ(parse_plan(to_string(plan)), plan);
  EXPECT_EQ(to_string(Plan{2, 4, kHierarchical2d}), "r2 d4 2dh");
  EXPECT_EQ(to_string(kDefaultPlan), "r1 d1 linear");
  EXPECT_EQ(to_string(Plan{2, 4, kLinear, ExpertKernel::kCounted}), "r2 d4 linear counted");
  EXPECT_EQ(parse_plan("r2147483647 d2147483647 linear"), (Plan{2147483647, 2147483647, kLinear}));
}

TEST(Plan, ParsesPartsInAnyOrderAndDefaultsTheRest) {
  const Plan plan = {2, 4, kHierarchical2d};
  for (const char* text : {"r2 d4 2dh", "r2 2dh d4", "d4 r2 2dh", "d4 2dh r2", "2dh r2 d4", "2dh d4 r2"}) {
    EXPECT_EQ(parse_plan(text), plan) << text;
  }
  EXPECT_EQ(parse_plan("r0"), (Plan{0, 1, kLinear}));
  EXPECT_EQ(parse_plan("d8"), (Plan{1, 8, kLinear}));
  EXPECT_EQ(parse_plan("2dh"), (Plan{1, 1, kHierarchical2d}));
  EXPECT_EQ(parse_plan("linear"), kDefaultPlan);
  EXPECT_EQ(parse_plan("padded"), kDefaultPlan);
  EXPECT_EQ(parse_plan("counted r2"), (Plan{2, 1, kLinear, ExpertKernel::kCounted}));
  EXPECT_EQ(parse_plan("  r2   d4 2dh "), plan);
}

std::string parse_error(const char* text) {
  return error_text([text] { static_cast<void>(parse_plan(text)); });
}

TEST(Plan, SaysWhatAPlanLooksLike) {
  EXPECT_EQ(parse_error(""), "plan '' is empty; a plan looks like 'r2 d4 2dh'");
  EXPECT_EQ(parse_error("  "), "plan '  ' is empty; a plan looks like 'r2 d4 2dh'");
  EXPECT_EQ(parse_error("r2 d4 ring"),
            "plan 'r2 d4 ring': 'ring' is unknown; a plan looks like 'r2 d4 2dh' (r 0 or more, d 1 or more, "
            "linear or 2dh)");
  EXPECT_EQ(parse_error("r2 r4"), "plan 'r2 r4': 'r4' sets again what is set; a plan looks like 'r2 d4 2dh'");
  EXPECT_EQ(parse_error("linear r1 2dh"),
            "plan 'linear r1 2dh': '2dh' sets again what is set; a plan looks like 'r2 d4 2dh'");
}

TEST(Plan, RefusesPartsThatAreNone) {
  for (const char* text : {"r", "d", "rd", "r-1", "r-0", "r+1", "d0", "d-1", "r1.5", "r1x", "r 1", "R1", "4",
                           "r2147483648", "r99999999999999999999", "2DH", "linear,r1", "r1\td2", "r1\nd2"}) {
    EXPECT_NE(parse_error(text).find("is unknown; a plan looks like 'r2 d4 2dh'"), std::string::npos) << text;
  }
}

TEST(Plan, OrdersByDegreeThenPipelineThenAlgorithm) {
  EXPECT_LT((Plan{0, 8, kHierarchical2d}), (Plan{1, 1, kLinear}));
  EXPECT_LT((Plan{1, 1, kHierarchical2d}), (Plan{1, 2, kLinear}));
  EXPECT_LT((Plan{1, 1, kLinear}), (Plan{1, 1, kHierarchical2d}));
  const std::vector<Plan> grid = plan_grid();
  EXPECT_TRUE(std::ranges::is_sorted(grid));
  EXPECT_EQ(std::set<Plan>(grid.begin(), grid.end()).size(), grid.size());
}

TEST(Plan, HashesAreDistinct) {
  std::set<std::uint64_t> hashes;
  std::unordered_set<Plan> plans;
  for (const Plan& plan : plan_grid()) {
    hashes.insert(stable_hash(plan));
    plans.insert(plan);
  }
  EXPECT_EQ(hashes.size(), plan_grid().size());
  EXPECT_EQ(plans.size(), plan_grid().size());
}

// Computed by a separate program. Ranks of different builds compare these: they must never change by
// accident.
TEST(Plan, HashIsPinned) {
  EXPECT_EQ(stable_hash({0, 1, kLinear}), 0x6602d201e324653fU);
  EXPECT_EQ(stable_hash({1, 1, kLinear}), 0xaded8f0120e82b9aU);
  EXPECT_EQ(stable_hash({1, 1, kHierarchical2d}), 0xa4863e986a964cccU);
  EXPECT_EQ(stable_hash({2, 4, kHierarchical2d}), 0x7930f7f165b57f08U);
  EXPECT_EQ(stable_hash({8, 8, kLinear}), 0x15901887fee7660bU);
}

TEST(AllToAllAlgorithm, HasShortNames) {
  EXPECT_EQ(name(kLinear), "linear");
  EXPECT_EQ(name(kHierarchical2d), "2dh");
}

}  // namespace
}  // namespace flex::testing
