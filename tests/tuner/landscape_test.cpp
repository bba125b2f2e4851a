#include "tuner/landscape.h"

#include <gtest/gtest.h>

#include "base/philox.h"
#include "tests/base/expect_error.h"
#include "tests/tuner/cases.h"

namespace flex {
namespace {

using testing::kCannotRun;
using testing::shared_expert;

SearchProblem three_plans() {
  SearchProblem problem = shared_expert(4, Passes::kForward);
  problem.plans = {parse_plan("r1"), parse_plan("r1 d2"), parse_plan("r4")};
  return problem;
}

double of_three(const Plan& plan, Pass /*pass*/) {
  if (plan == kDefaultPlan) return 2;
  return plan.parallel_degree == 4 ? 4 : 1;
}

TEST(Landscape, RegretIsTheShareBeyondTheBest) {
  const Landscape landscape(three_plans(), of_three);
  EXPECT_EQ(landscape.best(), (TimedPlanPair{parse_plan("r1 d2"), parse_plan("r1 d2"), 1}));
  EXPECT_DOUBLE_EQ(landscape.regret(landscape.best()), 0);
  EXPECT_DOUBLE_EQ(landscape.regret({kDefaultPlan, kDefaultPlan}), 1);
  EXPECT_DOUBLE_EQ(landscape.regret({parse_plan("r4"), parse_plan("r4")}), 3);
}

// Regrets are 0, 1 and 3, and 1 at the default plan, which is always there: one draw gives 0, 1 or 1; of two
// draws one in three misses the best.
TEST(Landscape, RandomRegretWorkedByHand) {
  const Landscape landscape(three_plans(), of_three);
  EXPECT_DOUBLE_EQ(landscape.random_regret(0), 1);
  EXPECT_DOUBLE_EQ(landscape.random_regret(1), 2.0 / 3);
  EXPECT_DOUBLE_EQ(landscape.random_regret(2), 1.0 / 3);
  EXPECT_DOUBLE_EQ(landscape.random_regret(3), 0);
}

TEST(Landscape, RandomRegretIsTheMeanOverDraws) {
  const SearchProblem problem = shared_expert(8);
  PhiloxStream random(5);
  std::map<std::pair<Plan, Pass>, double> times;
  for (const Plan& plan : problem.plans) {
    for (const Pass pass : passes_of(problem.passes)) times[{plan, pass}] = 1 + random.uniform();
  }
  const Landscape landscape(problem, [&](const Plan& plan, Pass pass) { return times.at({plan, pass}); });
  std::vector<TimedPlanPair> pairs;
  for (const Plan& f : problem.plans) {
    for (const Plan& b : problem.plans) {
      if (can_pair(f, b)) pairs.push_back({f, b});
    }
  }
  constexpr int kRepeats = 20000;
  constexpr std::size_t kDraws = 4;
  double mean = 0;
  for (int i = 0; i < kRepeats; ++i) {
    double best = landscape.regret({kDefaultPlan, kDefaultPlan});
    for (std::size_t j = 0; j < kDraws; ++j) {
      const auto other =
          j + static_cast<std::size_t>(random.below(static_cast<std::int64_t>(pairs.size() - j)));
      std::swap(pairs[j], pairs[other]);
      best = std::min(best, landscape.regret(pairs[j]));
    }
    mean += best / kRepeats;
  }
  EXPECT_NEAR(landscape.random_regret(kDraws), mean, 0.01);
}

TEST(Landscape, NeedsAPairThatRuns) {
  EXPECT_EQ(message_of<InputError>(
                [] { (void)Landscape(three_plans(), [](const Plan&, Pass) { return kCannotRun; }); }),
            "none of 3 plan(s) runs: there is no best one");
}

}  // namespace
}  // namespace flex
