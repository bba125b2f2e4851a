#include "tuner/evaluator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "costmodel/accuracy.h"
#include "costmodel/prediction.h"
#include "tests/base/expect_error.h"
#include "tests/tuner/cases.h"
#include "tuner/simulated_evaluator.h"

namespace flex {
namespace {

using testing::on_ndv4;

TEST(Evaluation, OfSamplesIsTheirMedianAndWhatItScattersBy) {
  // Median 30 us; distances 20, 10, 0, 10, 70, so their median is 10 us.
  const std::vector<std::int64_t> samples_ns = {10'000, 20'000, 30'000, 40'000, 100'000};
  const Evaluation evaluation = evaluation_of(samples_ns, EvaluationSource::kMeasured);
  EXPECT_TRUE(evaluation.ran());
  EXPECT_DOUBLE_EQ(evaluation.duration_us, 30);
  EXPECT_NEAR(evaluation.spread_us, 1.2533 * 1.4826 * 10 / std::sqrt(5.0), 1e-12);
  EXPECT_EQ(evaluation.num_samples(), 5);
  EXPECT_EQ(evaluation.source, EvaluationSource::kMeasured);
}

// The factors in evaluation_of() are those of normal samples.
TEST(Evaluation, SpreadIsThatOfMedians) {
  constexpr int kRepeats = 2000;
  PhiloxStream random(11);
  std::vector<double> medians;
  double claimed = 0;
  for (int i = 0; i < kRepeats; ++i) {
    std::vector<std::int64_t> samples_ns(25);
    for (auto& ns : samples_ns) ns = 1'000'000 + std::llround(50'000 * random.normal());
    const Evaluation one = evaluation_of(samples_ns, EvaluationSource::kMeasured);
    medians.push_back(one.duration_us);
    claimed += one.spread_us / kRepeats;
  }
  const double mean = std::accumulate(medians.begin(), medians.end(), 0.0) / kRepeats;
  double variance = 0;
  for (const double one : medians) variance += (one - mean) * (one - mean) / (kRepeats - 1);
  EXPECT_NEAR(claimed / std::sqrt(variance), 1, 0.1);
}

TEST(Evaluation, RefusesWhatIsNoDuration) {
  const std::vector<std::int64_t> samples_ns = {5, 0};
  EXPECT_EQ(message_of<InputError>([&] { (void)evaluation_of(samples_ns, EvaluationSource::kMeasured); }),
            "a sample of 0 ns; durations are above 0");
  EXPECT_THROW((void)evaluation_of({}, EvaluationSource::kMeasured), InputError);
}

// Four times the mean: what experts that are not the fullest leave free costs padded ones only.
TEST(SimulatedEvaluator, CountedExpertsSaveWhatTheCapacityLeavesFree) {
  SearchProblem problem = on_ndv4(1, 32, Passes::kBoth, true);
  const CostModel costs = cost_model_of(problem.cluster);
  const auto us = [&](const char* plan) {
    SimulatedEvaluator evaluator(problem.workload, problem.cluster, costs);
    return evaluator.truth_us(parse_plan(plan), Pass::kForward);
  };
  EXPECT_NEAR(us("r1 counted") / us("r1"), 1, 0.05);  // all have as many
  problem.workload.capacity *= 4;
  EXPECT_LT(us("r1 counted"), 0.8 * us("r1"));
}

TEST(SimulatedEvaluator, WithoutNoiseSaysWhatPredictionsSay) {
  const SearchProblem problem = on_ndv4(2, 8);
  const CostModel costs = cost_model_of(problem.cluster);
  SimulatedEvaluator evaluator(problem.workload, problem.cluster, costs);
  PlanPredictor forward(
      {.workload = problem.workload, .cluster = problem.cluster, .passes = Passes::kForward}, costs);
  double sum_us = 0;
  for (const Plan& plan : problem.plans) {
    const Evaluation evaluation = evaluator.evaluate(plan, Pass::kForward);
    EXPECT_DOUBLE_EQ(evaluation.duration_us, forward.predict(plan, plan).total_us) << to_string(plan);
    EXPECT_EQ(evaluation.spread_us, 0);
    EXPECT_EQ(evaluation.num_samples(), 1);
    sum_us += evaluation.duration_us;
  }
  EXPECT_EQ(evaluator.num_evaluations(), static_cast<std::int64_t>(problem.plans.size()));
  EXPECT_NEAR(evaluator.elapsed_s(), sum_us * 1e-6, 1e-12);
}

TEST(SimulatedEvaluator, NoiseIsLognormalAndSeeded) {
  const SearchProblem problem = on_ndv4(2, 16);
  const CostModel costs = cost_model_of(problem.cluster);
  constexpr int kCount = 4000;
  constexpr double kSpread = 0.05;
  const auto logs = [&](std::uint64_t seed) {
    SimulatedEvaluator evaluator(problem.workload, problem.cluster, costs,
                                 {.relative_spread = kSpread, .seed = seed});
    const double truth_us = evaluator.truth_us(kDefaultPlan, Pass::kBackward);
    std::vector<double> result;
    for (int i = 0; i < kCount; ++i) {
      const Evaluation one = evaluator.evaluate(kDefaultPlan, Pass::kBackward);
      EXPECT_DOUBLE_EQ(one.spread_us, kSpread * one.duration_us);
      result.push_back(std::log(one.duration_us / truth_us));
    }
    return result;
  };
  const std::vector<double> one = logs(3);
  const double mean = std::accumulate(one.begin(), one.end(), 0.0) / kCount;
  double variance = 0;
  for (const double log : one) variance += (log - mean) * (log - mean) / (kCount - 1);
  EXPECT_NEAR(mean, 0, 4 * kSpread / std::sqrt(kCount));
  EXPECT_NEAR(std::sqrt(variance), kSpread, 0.05 * kSpread);
  EXPECT_EQ(one, logs(3));
  EXPECT_NE(one, logs(4));
}

TEST(SimulatedEvaluator, DriftGrowsWithEachEvaluation) {
  const SearchProblem problem = on_ndv4(1, 8);
  const CostModel costs = cost_model_of(problem.cluster);
  SimulatedEvaluator evaluator(problem.workload, problem.cluster, costs, {.drift = 0.01});
  const double truth_us = evaluator.truth_us(kDefaultPlan, Pass::kForward);
  for (int i = 0; i < 5; ++i) {
    EXPECT_NEAR(evaluator.evaluate(kDefaultPlan, Pass::kForward).duration_us, truth_us * std::exp(0.01 * i),
                1e-9 * truth_us);
  }
}

TEST(SimulatedEvaluator, SaysWhyAPlanCannotRun) {
  const SearchProblem problem = on_ndv4(1, 8);
  const CostModel costs = cost_model_of(problem.cluster);
  SimulatedEvaluator evaluator(problem.workload, problem.cluster, costs);
  const Evaluation evaluation = evaluator.evaluate(parse_plan("r2"), Pass::kForward);
  EXPECT_FALSE(evaluation.ran());
  EXPECT_EQ(evaluation.why_not, "r2 does not divide the 1 rank(s) that share an expert; use r 0 or 1");
  EXPECT_EQ(evaluation.num_samples(), 0);
  EXPECT_EQ(evaluator.num_evaluations(), 1) << "an answer is an evaluation, whatever it says";
  EXPECT_EQ(evaluator.elapsed_s(), 0);
  EXPECT_EQ(message_of<InputError>([&] {
              SimulatedEvaluator(problem.workload, problem.cluster, costs, {.relative_spread = -0.5});
            }),
            "a relative spread of -0.5; it is 0 or more");
}

}  // namespace
}  // namespace flex
