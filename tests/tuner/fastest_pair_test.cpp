#include "tuner/fastest_pair.h"

#include <gmock/gmock.h>

#include "tests/tuner/cases.h"

namespace flex {
namespace {

using ::testing::ElementsAre;
using testing::kCannotRun;

TimedPlan forward(const char* plan, double us) { return {parse_plan(plan), Pass::kForward, us}; }
TimedPlan backward(const char* plan, double us) { return {parse_plan(plan), Pass::kBackward, us}; }
TimedPlanPair pair_of(const char* forward, const char* backward, double us) {
  return {parse_plan(forward), parse_plan(backward), us};
}

// The fastest forward plan has r2 and the fastest backward plan r1; together r1 wins.
TEST(TimedPlanPair, PassesShareR) {
  const std::vector<TimedPlan> timed = {forward("r1 d1", 5),  forward("r1 d2 2dh", 4), forward("r2 d1", 3),
                                        backward("r1 d1", 6), backward("r1 d4", 7),    backward("r2 d8", 9)};
  EXPECT_THAT(fastest_pairs(timed, Passes::kBoth),
              ElementsAre(pair_of("r1 d2 2dh", "r1 d1", 10), pair_of("r2 d1", "r2 d8", 12)));
  EXPECT_EQ(fastest_pair(timed, Passes::kBoth), pair_of("r1 d2 2dh", "r1 d1", 10));
  EXPECT_EQ(fastest_pair(timed, Passes::kForward), pair_of("r2 d1", "r2 d1", 3));
  EXPECT_EQ(fastest_pair(timed, Passes::kBackward), pair_of("r1 d1", "r1 d1", 6));
}

TEST(TimedPlanPair, PassesShareTheExpertKernel) {
  const std::vector<TimedPlan> timed = {forward("r1 counted", 1), backward("r1", 1), forward("r1 d2", 7),
                                        backward("r1 d2 counted", 4)};
  EXPECT_EQ(fastest_pair(timed, Passes::kBoth), pair_of("r1 counted", "r1 d2 counted", 5));
}

TEST(TimedPlanPair, OfEqualPlansTheDefaultAndThenTheSmallerWins) {
  const std::vector<TimedPlan> timed = {forward("r0", 5),    backward("r0", 5), forward("r1 d2", 5),
                                        forward("r1", 5),    backward("r1", 5), backward("r1 2dh", 5),
                                        forward("r4 d2", 5), forward("r4", 5),  backward("r4 d8", 5)};
  EXPECT_EQ(fastest_pair(timed, Passes::kBoth), pair_of("r1", "r1", 10));
  EXPECT_EQ(fastest_pair(std::span(timed).last(3), Passes::kBoth), pair_of("r4", "r4 d8", 10));
}

TEST(TimedPlanPair, NeedsAllPasses) {
  const std::vector<TimedPlan> timed = {forward("r1", 5), backward("r2", 1), backward("r1", kCannotRun)};
  EXPECT_EQ(fastest_pair(timed, Passes::kBoth), std::nullopt);
  EXPECT_EQ(fastest_pair({}, Passes::kForward), std::nullopt);
}

// r2 is best at either load with another backward plan, but only r1 was timed at both.
TEST(FastestCommonPair, IsTimedAtEveryLoad) {
  const std::vector<std::vector<TimedPlan>> loads = {
      {forward("r1", 5), backward("r1", 7), forward("r2", 1), backward("r2 d2", 1), backward("r1 d2", 6)},
      {forward("r1", 6), backward("r1", 7), forward("r2", 1), backward("r2 d4", 1), backward("r1 d2", 9)}};
  EXPECT_EQ(fastest_common_pair(loads, Passes::kBoth), pair_of("r1", "r1", 25));
  EXPECT_EQ(fastest_common_pair(loads, Passes::kForward), pair_of("r2", "r2", 2));
  EXPECT_EQ(fastest_common_pair({}, Passes::kBoth), std::nullopt);
}

}  // namespace
}  // namespace flex
