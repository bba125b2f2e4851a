#include "tuner/search.h"

#include <gmock/gmock.h>

#include <set>

#include "base/philox.h"
#include "tests/base/expect_error.h"
#include "tests/tuner/cases.h"
#include "tuner/landscape.h"

/// What holds for every strategy.
namespace flex {
namespace {

using testing::HandEvaluator;
using testing::kCannotRun;
using testing::on_ndv4;
using ::testing::SizeIs;

/// Random times without structure: a function of the plan and the pass.
double rugged_us(const Plan& plan, Pass pass) {
  return 10 + 90 * PhiloxStream(stable_hash(plan), static_cast<std::uint64_t>(pass)).uniform();
}

class AnyStrategy : public ::testing::TestWithParam<StrategyKind> {
 protected:
  [[nodiscard]] SearchResult search(const SearchProblem& problem, Evaluator& evaluator,
                                    const SearchBudget& budget = {}, std::uint64_t seed = 1) const {
    const CostModel costs = cost_model_of(problem.cluster);
    return make_strategy(GetParam(), costs)->search(problem, evaluator, budget, seed);
  }
  [[nodiscard]] SearchResult search(const SearchProblem& problem,
                                    const std::function<double(const Plan&, Pass)>& duration_us,
                                    const SearchBudget& budget = {}, std::uint64_t seed = 1) const {
    HandEvaluator evaluator(duration_us);
    return search(problem, evaluator, budget, seed);
  }
};

std::vector<std::string> texts(const SearchResult& result) {
  std::vector<std::string> lines;
  for (const EvaluatedPlan& one : result.evaluations) {
    lines.push_back(to_string(one.plan) + " " + std::string(name(one.pass)));
  }
  return lines;
}

TEST_P(AnyStrategy, EvaluatesTheDefaultFirstAndNothingTwice) {
  for (const SearchProblem& problem :
       {on_ndv4(8, 8), on_ndv4(2, 32), on_ndv4(4, 8, Passes::kForward), on_ndv4(4, 8, Passes::kBackward),
        on_ndv4(2, 8, Passes::kBoth, true)}) {
    HandEvaluator evaluator(rugged_us);
    const SearchResult result = search(problem, evaluator);
    const auto passes = passes_of(problem.passes);
    ASSERT_GE(result.evaluations.size(), passes.size());
    for (std::size_t i = 0; i < passes.size(); ++i) {
      EXPECT_EQ(result.evaluations[i].plan, kDefaultPlan);
      EXPECT_EQ(result.evaluations[i].pass, passes[i]);
    }
    std::set<std::pair<Plan, Pass>> seen;
    for (const EvaluatedPlan& one : result.evaluations) {
      EXPECT_TRUE(seen.emplace(one.plan, one.pass).second) << to_string(one.plan);
      EXPECT_EQ(one.evaluation.duration_us, rugged_us(one.plan, one.pass));
    }
    EXPECT_EQ(evaluator.num_evaluations(), result.num_evaluations());
    EXPECT_EQ(result.num_candidates, problem.num_candidates());
    EXPECT_TRUE(can_pair(result.best.forward, result.best.backward));
    for (const Pass pass : passes) EXPECT_TRUE(seen.contains({result.best.of(pass), pass}));
    if (passes.size() == 1) {
      EXPECT_EQ(result.best.forward, result.best.backward);
    }
  }
}

TEST_P(AnyStrategy, KeepsToItsBudget) {
  const SearchProblem problem = on_ndv4(8, 8);
  ASSERT_EQ(problem.num_candidates(), 66);
  for (const SearchBudget& budget :
       {SearchBudget{.max_evaluations = 5}, SearchBudget{.max_fraction = 5.0 / 66}}) {
    const SearchResult result = search(problem, rugged_us, budget);
    EXPECT_LE(result.num_evaluations(), 5);
    EXPECT_GE(result.num_evaluations(), 4) << "half a pair may be left";
    EXPECT_FALSE(result.complete);
    EXPECT_LE(result.best.total_us, result.default_us);
  }
}

TEST_P(AnyStrategy, EvaluatesTheDefaultWhateverTheBudget) {
  const SearchProblem problem = on_ndv4(8, 8);
  for (const SearchBudget& budget : {SearchBudget{.max_evaluations = 0}, SearchBudget{.max_fraction = 0},
                                     SearchBudget{.max_seconds = 0}}) {
    const SearchResult result = search(problem, rugged_us, budget);
    EXPECT_THAT(result.evaluations, SizeIs(2));
    EXPECT_EQ(result.best.forward, kDefaultPlan);
    EXPECT_EQ(result.best.backward, kDefaultPlan);
    EXPECT_FALSE(result.complete);
  }
}

// Evaluations of 1 s each: the fourth begins at 3 s, the fifth would at 4.
TEST_P(AnyStrategy, BeginsNothingAfterItsTime) {
  const SearchProblem problem = on_ndv4(8, 8);
  const SearchResult result = search(problem, [](const Plan&, Pass) { return 1e6; }, {.max_seconds = 3.5});
  EXPECT_THAT(result.evaluations, SizeIs(4));
  EXPECT_FALSE(result.complete);
}

TEST_P(AnyStrategy, EqualSeedsGiveEqualSearches) {
  const SearchProblem problem = on_ndv4(8, 8);
  for (const std::uint64_t seed : {1, 2, 3}) {
    EXPECT_EQ(texts(search(problem, rugged_us, {}, seed)), texts(search(problem, rugged_us, {}, seed)));
  }
}

TEST_P(AnyStrategy, TakesTheOnlyPlanThereIs) {
  SearchProblem problem = on_ndv4(1, 8);
  problem.plans = {kDefaultPlan};
  const SearchResult result = search(problem, rugged_us);
  EXPECT_THAT(result.evaluations, SizeIs(2));
  EXPECT_TRUE(result.complete);
  EXPECT_EQ(result.best.forward, kDefaultPlan);
  EXPECT_EQ(result.best.backward, kDefaultPlan);
}

// What cannot run is passed over, however good the rest of its r.
TEST_P(AnyStrategy, NeverTakesWhatCannotRun) {
  const SearchProblem problem = on_ndv4(8, 8);
  const auto only_linear = [](const Plan& plan, Pass pass) {
    if (plan.all_to_all == AllToAllAlgorithm::kHierarchical2d || plan.parallel_degree == 0) return kCannotRun;
    return rugged_us(plan, pass);
  };
  const SearchResult result = search(problem, only_linear);
  for (const Plan& plan : {result.best.forward, result.best.backward}) {
    EXPECT_EQ(plan.all_to_all, AllToAllAlgorithm::kLinear);
    EXPECT_NE(plan.parallel_degree, 0);
  }
  EXPECT_LE(result.best.total_us, result.default_us);
}

TEST_P(AnyStrategy, DoesWithoutADefaultThatCannotRun) {
  const SearchProblem problem = on_ndv4(8, 8);
  const SearchResult result = search(problem, [](const Plan& plan, Pass pass) {
    return plan == kDefaultPlan ? kCannotRun : rugged_us(plan, pass);
  });
  EXPECT_EQ(result.default_us, kCannotRun);
  EXPECT_NE(result.best.forward, kDefaultPlan);
  EXPECT_NE(result.best.backward, kDefaultPlan);
}

TEST_P(AnyStrategy, SaysWhyNothingRan) {
  const SearchProblem problem = on_ndv4(1, 8);
  EXPECT_EQ(
      message_of<InputError>([&] { (void)search(problem, [](const Plan&, Pass) { return kCannotRun; }); }),
      "no plan could run; r1 d1 linear: r1 d1 linear is out of order");
}

TEST_P(AnyStrategy, RefusesAProblemWithoutTheDefault) {
  SearchProblem problem = on_ndv4(1, 8);
  std::erase(problem.plans, kDefaultPlan);
  EXPECT_EQ(message_of<InputError>([&] { (void)search(problem, rugged_us); }),
            "the candidates lack the default plan r1 d1 linear, or are not in ascending order");
}

// r = 0 exchanges no tokens: one plan.
TEST_P(AnyStrategy, TriesOneDataParallelPlan) {
  const SearchResult result = search(on_ndv4(8, 8), rugged_us);
  std::int64_t count = 0;
  for (const EvaluatedPlan& one : result.evaluations) count += one.plan.parallel_degree == 0 ? 1 : 0;
  EXPECT_LE(count, 2) << "one for each pass";
}

// A difference within what evaluations scatter by is none: the default stays.
TEST(Search, KeepsTheDefaultWithinTheNoise) {
  class Noisy final : public Evaluator {
   public:
    explicit Noisy(double gain) : gain_(gain) {}
    [[nodiscard]] double elapsed_s() const override { return 0; }

   private:
    [[nodiscard]] Evaluation run(const Plan& plan, Pass /*pass*/) override {
      const double us = plan.pipeline_degree == 4 ? 100 - gain_ : 100;
      return {.duration_us = us, .spread_us = 3, .samples_ns = {1}};
    }
    double gain_;
  };
  const SearchProblem problem = on_ndv4(1, 8, Passes::kForward);
  const CostModel costs = cost_model_of(problem.cluster);
  const auto best = [&](double gain) {
    Noisy evaluator(gain);
    return make_strategy(StrategyKind::kExhaustive, costs)->search(problem, evaluator, {}, 0).best.forward;
  };
  EXPECT_EQ(best(6.3), kDefaultPlan) << "1.5 sqrt(3^2 + 3^2) = 6.36";
  EXPECT_EQ(best(6.4), parse_plan("d4"));
}

TEST(Search, StrategiesHaveNames) {
  for (const StrategyKind kind : kStrategyKinds) EXPECT_EQ(parse_strategy(name(kind)), kind);
  EXPECT_EQ(
      message_of<InputError>([] { (void)parse_strategy("dictonary"); }),
      "\"dictonary\" is no search strategy; use exhaustive, random, dictionary, model, local (did you mean "
      "dictionary?)");
  EXPECT_EQ(message_of<InputError>([] { (void)parse_strategy("annealing"); }),
            "\"annealing\" is no search strategy; use exhaustive, random, dictionary, model, local");
}

TEST(Search, ATenthIsAtLeastSix) {
  EXPECT_EQ(tenth_of(on_ndv4(1, 8)).max_evaluations, 6);
  const SearchProblem large = testing::shared_expert(128);
  EXPECT_EQ(large.num_candidates(), 2 * (1 + 8 * 8));
  EXPECT_EQ(tenth_of(large).max_evaluations, 13);
}

INSTANTIATE_TEST_SUITE_P(All, AnyStrategy, ::testing::ValuesIn(kStrategyKinds),
                         [](const auto& one) { return std::string(name(one.param)); });

}  // namespace
}  // namespace flex
