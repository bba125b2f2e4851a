#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/philox.h"
#include "tests/tuner/cases.h"
#include "tuner/dictionary_search.h"
#include "tuner/exhaustive_search.h"
#include "tuner/landscape.h"
#include "tuner/local_search.h"
#include "tuner/random_search.h"

/// What each strategy finds on landscapes made by hand.
namespace flex {
namespace {

using testing::HandEvaluator;
using testing::on_ndv4;
using testing::shared_expert;
using ::testing::SizeIs;

double rugged_us(const Plan& plan, Pass pass, std::uint64_t seed) {
  return 10 + 90 * PhiloxStream(stable_hash(plan) ^ seed, static_cast<std::uint64_t>(pass)).uniform();
}

/// The place of r among the degrees, 0 included.
double place_of(const SearchProblem& problem, std::int32_t degree) {
  const auto degrees = PlanSpace::parallel_degrees(problem.workload);
  return static_cast<double>(std::ranges::find(degrees, degree) - degrees.begin());
}

double paper_count(const SearchProblem& problem) {
  return (std::log(static_cast<double>(problem.workload.shards())) / std::log(1.5) + 2) * 8;
}

std::map<Pass, int> count_by_pass(const SearchResult& result) {
  std::map<Pass, int> counts;
  for (const EvaluatedPlan& one : result.evaluations) ++counts[one.pass];
  return counts;
}

TEST(ExhaustiveSearch, IsTheOracle) {
  for (const std::uint64_t seed : {1, 2, 3, 4, 5}) {
    for (const Passes passes : {Passes::kBoth, Passes::kForward, Passes::kBackward}) {
      const SearchProblem problem = on_ndv4(8, 8, passes, seed % 2 == 0);
      const auto us = [&](const Plan& plan, Pass pass) { return rugged_us(plan, pass, seed); };
      HandEvaluator evaluator(us);
      const SearchResult result = ExhaustiveSearch().search(problem, evaluator, {}, 0);
      EXPECT_TRUE(result.complete);
      EXPECT_EQ(result.num_evaluations(), problem.num_candidates());
      EXPECT_EQ(result.best, Landscape(problem, us).best());
    }
  }
}

TEST(ExhaustiveSearch, OfEqualPlansKeepsTheDefault) {
  HandEvaluator evaluator([](const Plan&, Pass) { return 7.0; });
  const SearchResult result = ExhaustiveSearch().search(on_ndv4(8, 8), evaluator, {}, 0);
  EXPECT_EQ(result.best, (TimedPlanPair{kDefaultPlan, kDefaultPlan, 14}));
}

TEST(RandomSearch, DrawsAnOrderAndFindsTheBestInTheEnd) {
  const SearchProblem problem = on_ndv4(8, 8);
  const auto us = [](const Plan& plan, Pass pass) { return rugged_us(plan, pass, 3); };
  const auto second_plan = [&](std::uint64_t seed) {
    HandEvaluator evaluator(us);
    const SearchResult result = RandomSearch().search(problem, evaluator, {}, seed);
    EXPECT_TRUE(result.complete);
    EXPECT_EQ(result.best, Landscape(problem, us).best());
    return result.evaluations[2].plan;
  };
  std::map<Plan, int> counts;
  for (std::uint64_t seed = 0; seed < 400; ++seed) ++counts[second_plan(seed)];
  EXPECT_THAT(counts, SizeIs(problem.plans.size() - 1)) << "every plan but the default comes first at times";
}

// The valley lies at each r in turn, and the best d and All-to-All differ by pass.
TEST(DictionarySearch, FindsTheOptimumOfOneValley) {
  for (const int shards : {1, 2, 3, 4, 6, 8, 12, 16, 30, 36, 60, 64, 120, 128, 360, 1024}) {
    const SearchProblem problem = shared_expert(shards);
    for (const std::int32_t valley : PlanSpace::parallel_degrees(problem.workload)) {
      const auto us = [&](const Plan& plan, Pass pass) {
        const double place = place_of(problem, plan.parallel_degree) - place_of(problem, valley);
        const int best_d = pass == Pass::kForward ? 2 : 8;
        return 100 + place * place + (plan.pipeline_degree == best_d ? 0 : 0.1) +
               (plan.all_to_all == AllToAllAlgorithm::kLinear ? 0.01 : 0);
      };
      HandEvaluator evaluator(us);
      const SearchResult result = DictionarySearch().search(problem, evaluator, {}, 0);
      EXPECT_TRUE(result.complete);
      EXPECT_EQ(result.best, Landscape(problem, us).best()) << shards << " shards, best r " << valley;
    }
  }
}

TEST(DictionarySearch, KeepsToThePapersCountOnAnyLandscape) {
  for (int shards = 1; shards <= 400; ++shards) {
    const SearchProblem problem = shared_expert(shards);
    for (const std::uint64_t seed : {1, 2, 3}) {
      HandEvaluator evaluator([&](const Plan& plan, Pass pass) { return rugged_us(plan, pass, seed); });
      const SearchResult result = DictionarySearch().search(problem, evaluator, {}, 0);
      for (const auto& [pass, count] : count_by_pass(result)) {
        EXPECT_LE(count, paper_count(problem)) << shards << " shards, " << name(pass);
      }
    }
  }
}

TEST(DictionarySearch, TriesBothKernelsWhereThereAreTwo) {
  const SearchProblem problem = on_ndv4(8, 8, Passes::kBoth, true);
  HandEvaluator evaluator([](const Plan& plan, Pass) {
    return plan.expert_kernel == ExpertKernel::kCounted ? 50.0 + plan.parallel_degree : 100.0;
  });
  const SearchResult result = DictionarySearch().search(problem, evaluator, {}, 0);
  EXPECT_EQ(result.best.forward, parse_plan("r0 counted"));
  for (const auto& [pass, count] : count_by_pass(result)) EXPECT_LE(count, 2 * paper_count(problem));
}

// Falls in every coordinate towards r4, d8 forward and d2 backward, 2dh.
TEST(LocalSearch, WalksDownASlope) {
  const SearchProblem problem = shared_expert(64);
  const auto us = [&](const Plan& plan, Pass pass) {
    const double r = std::abs(place_of(problem, plan.parallel_degree) - place_of(problem, 4));
    const double d = std::abs(std::log2(plan.pipeline_degree) - (pass == Pass::kForward ? 3 : 1));
    return 100 + 5 * r + d + (plan.all_to_all == AllToAllAlgorithm::kLinear ? 1 : 0);
  };
  for (const std::uint64_t seed : {1, 2, 3}) {
    HandEvaluator evaluator(us);
    const SearchResult result = LocalSearch().search(problem, evaluator, {}, seed);
    EXPECT_TRUE(result.complete);
    EXPECT_EQ(result.best, (TimedPlanPair{parse_plan("r4 d8 2dh"), parse_plan("r4 d2 2dh"), 200}));
    EXPECT_LT(result.num_evaluations(), problem.num_candidates());
  }
}

TEST(LocalSearch, StaysWhereNoNeighbourIsBetter) {
  const SearchProblem problem = shared_expert(64, Passes::kForward);
  HandEvaluator evaluator([](const Plan& plan, Pass) {
    if (plan.parallel_degree == 16) return 1.0;  // behind the rise at r2
    return plan == kDefaultPlan ? 10.0 : 20.0;
  });
  const SearchResult result = LocalSearch().search(problem, evaluator, {}, 0);
  EXPECT_TRUE(result.complete);
  EXPECT_EQ(result.best.forward, kDefaultPlan);
  EXPECT_THAT(result.evaluations, SizeIs(5)) << "the default, r0, r2, d2, 2dh";
}

TEST(LocalSearch, ReachesTheOtherKernel) {
  const SearchProblem problem = on_ndv4(2, 16, Passes::kBoth, true);
  const Plan counted = parse_plan("r1 counted");
  HandEvaluator evaluator([&](const Plan& plan, Pass) { return plan == counted ? 5.0 : 6.0; });
  const SearchResult result = LocalSearch().search(problem, evaluator, {}, 0);
  EXPECT_EQ(result.best, (TimedPlanPair{counted, counted, 10}));
}

}  // namespace
}  // namespace flex
