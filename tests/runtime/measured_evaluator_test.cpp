#include "runtime/measured_evaluator.h"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cmath>
#include <vector>

#include "costmodel/plan_space.h"
#include "runtime/launch.h"
#include "tests/base/expect_error.h"
#include "tuner/exhaustive_search.h"

namespace flex {
namespace {

using namespace std::chrono_literals;

constexpr LayerShape kShape{
    .num_tokens = 48, .model_dim = 16, .hidden_dim = 16, .num_experts = 1, .top_k = 1};
constexpr Plan kOther{.parallel_degree = 2, .pipeline_degree = 2};
// Narrow enough at once.
constexpr double kAnyWidth = 1e9;
// Never narrow enough: of seven samples at least four would have to be equal to the nanosecond.
constexpr double kNoWidth = 0;

MeasurementSettings quick() {
  return {.num_warmup = 1, .min_repeats = 3, .max_repeats = 3, .relative_half_width = kAnyWidth};
}

/// Runs `body` with an evaluator of its own on each of two ranks.
void on_two_ranks(const MeasurementSettings& settings,
                  const std::function<void(MeasuredEvaluator&, RankContext&)>& body,
                  const LayerShape& shape = kShape) {
  run_ranks({2, 2}, 60s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    Stream stream(Device::cpu());
    MeasuredEvaluator evaluator(shape, config_of(shape, DType::kF32), context, stream, settings);
    body(evaluator, context);
  });
}

TEST(MeasuredEvaluator, AnswersAlikeOnAllRanks) {
  std::array<std::vector<Evaluation>, 2> evaluations;
  std::array<double, 2> elapsed_s{};
  on_two_ranks(quick(), [&](MeasuredEvaluator& evaluator, RankContext& context) {
    const auto rank = static_cast<std::size_t>(context.rank());
    EXPECT_EQ(evaluator.workload(), workload_of(kShape, DType::kF32, 2));
    EXPECT_EQ(evaluator.load().max_over_mean, 1);
    EXPECT_EQ(evaluator.elapsed_s(), 0);
    for (const Plan& plan : PlanSpace(evaluator.workload(), context.cluster()).plans()) {
      for (const Pass pass : {Pass::kForward, Pass::kBackward}) {
        evaluations[rank].push_back(evaluator.evaluate(plan, pass));
      }
    }
    elapsed_s[rank] = evaluator.elapsed_s();
  });
  EXPECT_EQ(evaluations[0], evaluations[1]);
  EXPECT_EQ(elapsed_s[0], elapsed_s[1]);
  double measured_s = 0;
  for (const Evaluation& evaluation : evaluations[0]) {
    EXPECT_TRUE(evaluation.ran());
    EXPECT_EQ(evaluation.source, EvaluationSource::kMeasured);
    EXPECT_EQ(evaluation, evaluation_of(evaluation.samples_ns, EvaluationSource::kMeasured));
    for (const std::int64_t ns : evaluation.samples_ns) measured_s += static_cast<double>(ns) * 1e-9;
  }
  EXPECT_GT(measured_s, 0);
  // The slowest rank's forward and backward pass need not be one rank's, so their sum may be more than any
  // rank's pass; but never twice as much.
  EXPECT_LT(measured_s, 2 * elapsed_s[0]);
}

TEST(MeasuredEvaluator, RepeatsUntilTheMedianIsKnownWithinItsLimits) {
  struct Case {
    MeasurementSettings settings;
    std::int64_t num_samples;
  };
  const Case cases[] = {
      {{.num_warmup = 0, .min_repeats = 7, .max_repeats = 9, .relative_half_width = kAnyWidth}, 7},
      {{.num_warmup = 0, .min_repeats = 7, .max_repeats = 9, .relative_half_width = kNoWidth}, 9},
      {{.num_warmup = 0,
        .min_repeats = 7,
        .max_repeats = 9,
        .relative_half_width = kNoWidth,
        .max_seconds = 0},
       7},
      {{.num_warmup = 2, .min_repeats = 1, .max_repeats = 1}, 1},
  };
  for (const Case& one : cases) {
    on_two_ranks(one.settings, [&](MeasuredEvaluator& evaluator, RankContext&) {
      EXPECT_EQ(evaluator.evaluate(kDefaultPlan, Pass::kForward).num_samples(), one.num_samples);
      EXPECT_EQ(evaluator.evaluate(kDefaultPlan, Pass::kBackward).num_samples(), one.num_samples);
    });
  }
}

TEST(MeasuredEvaluator, MeasuresBothPassesOfAPlanAtOnce) {
  on_two_ranks(quick(), [](MeasuredEvaluator& evaluator, RankContext&) {
    const Evaluation backward = evaluator.evaluate(kOther, Pass::kBackward);
    const double after_one_s = evaluator.elapsed_s();
    EXPECT_GT(after_one_s, 0);
    const Evaluation forward = evaluator.evaluate(kOther, Pass::kForward);
    EXPECT_EQ(evaluator.elapsed_s(), after_one_s);
    EXPECT_EQ(evaluator.num_evaluations(), 2);
    EXPECT_EQ(forward.num_samples(), 3);
    EXPECT_NE(forward.samples_ns, backward.samples_ns);

    // What was told once is measured again.
    static_cast<void>(evaluator.evaluate(kOther, Pass::kForward));
    EXPECT_GT(evaluator.elapsed_s(), after_one_s);
  });
}

TEST(MeasuredEvaluator, APlanThatCannotRunIsAnAnswer) {
  on_two_ranks(quick(), [](MeasuredEvaluator& evaluator, RankContext& context) {
    const Plan wrong{.parallel_degree = 3};
    const Evaluation evaluation = evaluator.evaluate(wrong, Pass::kForward);
    EXPECT_FALSE(evaluation.ran());
    EXPECT_EQ(evaluation.why_not, *why_illegal(wrong, evaluator.workload(), context.cluster()));
    EXPECT_EQ(evaluation.duration_us, 0);
    EXPECT_EQ(evaluation.num_samples(), 0);
    EXPECT_EQ(evaluator.elapsed_s(), 0);
  });
}

TEST(MeasuredEvaluator, KnowsTheLoadOfDroplessRouting) {
  LayerShape shape = kShape;
  shape.num_experts = 2;
  shape.capacity_factor = 0;
  on_two_ranks(
      quick(),
      [](MeasuredEvaluator& evaluator, RankContext&) {
        EXPECT_TRUE(evaluator.workload().dropless);
        // One of two experts has at least half of a rank's tokens.
        EXPECT_GE(evaluator.workload().capacity, kShape.num_tokens / 2);
        // The fuller of the two has at most what the capacity says of every rank.
        EXPECT_GE(evaluator.load().max_over_mean, 1);
        EXPECT_LE(evaluator.load().max_over_mean,
                  static_cast<double>(2 * evaluator.workload().capacity) / kShape.num_tokens);
        EXPECT_TRUE(evaluator.evaluate({.expert_kernel = ExpertKernel::kCounted}, Pass::kForward).ran());
      },
      shape);
}

TEST(MeasuredEvaluator, OneRanksStopEndsTheSearchOfAll) {
  std::array<std::vector<Evaluation>, 2> evaluations;
  run_ranks({2, 2}, 60s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    Stream stream(Device::cpu());
    int asked = 0;
    MeasurementSettings settings = quick();
    settings.max_repeats = 100;
    settings.relative_half_width = kNoWidth;
    settings.should_stop = [&] { return ++asked >= 3 && world.rank() == 1; };
    MeasuredEvaluator evaluator(kShape, config_of(kShape, DType::kF32), context, stream, settings);
    const SearchProblem problem = search_problem(evaluator.workload(), context.cluster());
    const SearchResult result = ExhaustiveSearch().search(problem, evaluator, {}, 1);
    EXPECT_TRUE(evaluator.stopped());
    EXPECT_TRUE(std::isinf(evaluator.elapsed_s()));
    EXPECT_FALSE(result.complete);
    // The default plan, one pass of which was under way: whole, but no longer than it must be.
    EXPECT_EQ(result.num_evaluations(), 2);
    EXPECT_EQ(asked, 1 + 3);
    for (const EvaluatedPlan& one : result.evaluations) {
      EXPECT_EQ(one.plan, kDefaultPlan);
      EXPECT_EQ(one.evaluation.num_samples(), 3);
      evaluations[static_cast<std::size_t>(world.rank())].push_back(one.evaluation);
    }
  });
  EXPECT_EQ(evaluations[0], evaluations[1]);
}

TEST(MeasuredEvaluator, SaysWhichSettingCannotBe) {
  const auto message = [](const MeasurementSettings& settings) {
    return message_of<InputError>([&] { validate(settings); });
  };
  EXPECT_EQ(message({.num_warmup = -1}), "-1 warm-up passes; there are zero or more");
  EXPECT_EQ(message({.min_repeats = 0}),
            "from 0 to 50 repeats; the first is at least 1, and the second no less");
  EXPECT_EQ(message({.min_repeats = 3, .max_repeats = 2}),
            "from 3 to 2 repeats; the first is at least 1, and the second no less");
  EXPECT_EQ(message({.relative_half_width = -0.5}), "a relative half width of -0.5; it is 0 or more");
  EXPECT_EQ(message({.max_seconds = NAN}), "at most nan seconds for a plan; they are 0 or more");
}

TEST(MeasuredEvaluator, AShapeAndAConfigurationThatDisagreeAreRefused) {
  const std::string message = message_of<InputError>([] {
    run_ranks({2, 2}, 60s, [](Communicator& world) {
      RankContext context(world, Device::cpu());
      Stream stream(Device::cpu());
      MoeConfig config = config_of(kShape, DType::kF32);
      config.hidden_dim = 32;
      const MeasuredEvaluator evaluator(kShape, config, context, stream, quick());
    });
  });
  EXPECT_EQ(message, "a layer of M16 H32 E1 for tokens of the shape T48 M16 H16 E1 k1 f1; they must agree");
}

}  // namespace
}  // namespace flex
