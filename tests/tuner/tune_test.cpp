#include "tuner/tune.h"

#include <gmock/gmock.h>

#include "costmodel/cost_model.h"
#include "tests/tuner/cases.h"
#include "tuner/resumed_evaluator.h"
#include "tuner/simulated_evaluator.h"
#include "tuner/tuned_plans.h"

namespace flex {
namespace {

using ::testing::ElementsAre;
using testing::HandEvaluator;
using ::testing::IsEmpty;

class Tune : public ::testing::Test {
 protected:
  Tune() : target_{.problem = testing::on_ndv4(2, 8)}, costs_(cost_model_of(target_.problem.cluster)) {
    target_.environment = environment_of(target_.problem.cluster);
    settings_.conditions = {.source = TrialSource::kSimulated, .origin = "a test"};
  }

  [[nodiscard]] TuneResult run(std::vector<StrategyKind> strategies, std::int64_t max_evaluations = 1000) {
    settings_.strategies = std::move(strategies);
    settings_.budget.max_evaluations = max_evaluations;
    SimulatedEvaluator evaluator(target_.problem.workload, target_.problem.cluster, costs_);
    const auto known = known_evaluations(cache_, target_, TrialSource::kSimulated);
    return tune(target_, evaluator, known, &cache_, costs_, settings_);
  }

  [[nodiscard]] TunedPlans looked_up() {
    const auto no_neighbour = [](const Plan&, Pass) { return false; };
    const auto all_run = [](const Plan&, Pass) { return true; };
    const CacheSnapshot snapshot = cache_.snapshot(target_.environment);
    const std::uint64_t layer = layer_id(layer_of(target_.problem.workload));
    return tuned_plans(snapshot, layer, {target_.problem.workload}, no_neighbour, all_run);
  }

  TuningTarget target_;
  CostModel costs_;
  TuningCache cache_ = TuningCache::in_memory();
  TuneSettings settings_;
};

TEST_F(Tune, WhatWasFoundIsLookedUp) {
  EXPECT_EQ(looked_up().plans, PlanPair{});
  const TuneResult result = run({StrategyKind::kModel});
  ASSERT_EQ(result.strategies.size(), 1);
  EXPECT_GT(result.best().num_new, 0);
  EXPECT_LT(result.best().search.best.total_us, result.best().search.default_us);
  const TunedPlans found = looked_up();
  EXPECT_EQ(found.plans, static_cast<const PlanPair&>(result.best().search.best));
  EXPECT_EQ(found.forward_hit, CacheSnapshot::Hit::kExact);
  EXPECT_EQ(found.backward_hit, CacheSnapshot::Hit::kExact);
  EXPECT_TRUE(found.is_complete);
}

TEST_F(Tune, ASecondRunMeasuresNothingAgain) {
  const TuneResult first = run({StrategyKind::kExhaustive});
  EXPECT_EQ(first.best().num_new, target_.problem.num_candidates());
  const TuneResult second = run({StrategyKind::kExhaustive, StrategyKind::kDictionary});
  for (const StrategyResult& one : second.strategies) EXPECT_EQ(one.num_new, 0);
  // Samples are whole nanoseconds.
  EXPECT_NEAR(second.best().search.best.total_us, first.best().search.best.total_us, 2e-3);
}

TEST_F(Tune, AStoppedRunGoesOn) {
  const TuneResult first = run({StrategyKind::kExhaustive}, 7);
  EXPECT_FALSE(first.best().search.complete);
  EXPECT_FALSE(looked_up().is_complete);
  const TuneResult second = run({StrategyKind::kExhaustive});
  // What the first run lacked; it may have looked at one baseline more.
  EXPECT_GE(second.best().num_new, target_.problem.num_candidates() - 8);
  EXPECT_LE(second.best().num_new, target_.problem.num_candidates() - 7);
  EXPECT_TRUE(looked_up().is_complete);
}

TEST_F(Tune, StrategiesShareWhatTheyMeasure) {
  const TuneResult result = run({StrategyKind::kExhaustive, StrategyKind::kLocal});
  EXPECT_EQ(result.strategies[1].num_new, 0);
  EXPECT_GT(result.strategies[1].search.num_evaluations(), 0);
  EXPECT_EQ(static_cast<std::int64_t>(result.evaluated.size()), target_.problem.num_candidates());
}

TEST_F(Tune, OtherLoadsAndSourcesAreNotKnown) {
  static_cast<void>(run({StrategyKind::kModel}));
  EXPECT_THAT(known_evaluations(cache_, target_, TrialSource::kMeasured), IsEmpty());
  target_.problem.workload.capacity += 1;  // the same bucket
  EXPECT_THAT(known_evaluations(cache_, target_, TrialSource::kSimulated), IsEmpty());
}

TEST_F(Tune, TheBackwardCaseGetsItsBaseline) {
  SearchResult result;
  result.best = {{parse_plan("r2 d2"), parse_plan("r2 d4")}, 1};
  result.evaluations = {{parse_plan("r1"), Pass::kBackward, {}}, {parse_plan("r2"), Pass::kForward, {}}};
  const SearchProblem problem = testing::shared_expert(4);
  EXPECT_EQ(missing_baseline(problem, result), parse_plan("r2"));
  result.evaluations.push_back({parse_plan("r2"), Pass::kBackward, {}});
  EXPECT_EQ(missing_baseline(problem, result), std::nullopt);
  result.evaluations.clear();
  EXPECT_EQ(missing_baseline(testing::shared_expert(4, Passes::kForward), result), std::nullopt);
}

TEST(ResumedEvaluator, AsksForWhatIsNotKnown) {
  HandEvaluator hand([](const Plan& plan, Pass) { return 10.0 * plan.pipeline_degree; });
  const std::vector<EvaluatedPlan> known = {{parse_plan("r1"), Pass::kForward, {.duration_us = 5}}};
  std::vector<std::string> told;
  ResumedEvaluator resumed(hand, known,
                           [&](const EvaluatedPlan& one) { told.push_back(to_string(one.plan)); });
  EXPECT_EQ(resumed.evaluate(parse_plan("r1"), Pass::kForward).duration_us, 5);
  EXPECT_EQ(resumed.evaluate(parse_plan("r1"), Pass::kBackward).duration_us, 10);
  EXPECT_EQ(resumed.evaluate(parse_plan("r1 d2"), Pass::kForward).duration_us, 20);
  EXPECT_EQ(resumed.evaluate(parse_plan("r1 d2"), Pass::kForward).duration_us, 20);
  EXPECT_THAT(told, ElementsAre("r1 d1 linear", "r1 d2 linear"));
  EXPECT_EQ(resumed.num_new(), 2);
  EXPECT_EQ(hand.num_evaluations(), 2);
}

}  // namespace
}  // namespace flex
