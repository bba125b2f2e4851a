#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/models/chosen_plans.h"
#include "tests/models/training_runs.h"
#include "tests/support/compare.h"

/// A model on several ranks trains as on one, under every plan: dropless, so that it does not matter how
/// images are spread.
namespace flex::testing {
namespace {

// Sums over ranks and chunks are taken in another order than on one rank: some ulps each, which twenty steps
// of training amplify.
constexpr double kDoubleTolerance = 1e-10;
constexpr double kFloatTolerance = 1e-4;
constexpr std::int64_t kSteps = 20;

void expect_equal(const std::vector<std::vector<double>>& actual, const std::vector<double>& expected,
                  double tolerance, const std::string& what) {
  for (const std::vector<double>& losses : actual) {
    EXPECT_EQ(losses, actual.front()) << what << ": ranks tell different losses";
    ASSERT_EQ(losses.size(), expected.size());
    for (std::size_t step = 0; step < expected.size(); ++step)
      EXPECT_NEAR(losses[step], expected[step], tolerance * std::abs(expected[step]))
          << what << ", step " << step;
  }
}

struct World {
  int ranks;
  std::int64_t experts;
  const char* block;
  std::vector<const char*> plans;
};
void PrintTo(const World& world, std::ostream* out) {
  *out << fmt::format("{}_ranks_{}_experts_{}", world.ranks, world.experts, world.block);
}

class ModelOnRanks : public ::testing::TestWithParam<World> {};

TEST_P(ModelOnRanks, TrainsAsOnOne) {
  const World& world = GetParam();
  const ModelConfig model = model_of(micro_model(world.block, world.experts));
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    const TrainingConfig training = micro_training(dtype, kSteps);
    const std::vector<double> expected = train(model, training, {1, 1}).front();
    EXPECT_NE(expected[kSteps - 1], expected[0]);
    for (const char* plan : world.plans) {
      const PlanPair pair = parse_plan_pair(plan);
      expect_equal(
          train(model, training, {world.ranks, 2}, [&](RankContext&) { return PlanSource{.plans = pair}; }),
          expected, dtype == DType::kF64 ? kDoubleTolerance : kFloatTolerance,
          fmt::format("{} {}", name(dtype), plan));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Worlds, ModelOnRanks,
    ::testing::Values(World{2, 4, "swinv2", {"r1 d1 linear", "r0 d1 linear", "r1 d2 linear"}},
                      World{4, 4, "swin_moe", {"r0 d1 linear", "r1 d1 linear", "r1 d2 2dh / r1 d1 linear"}},
                      World{4, 2, "swinv2", {"r0 d1 linear", "r1 d1 2dh", "r2 d1 linear / r2 d2 2dh"}},
                      World{4, 1, "swinv2", {"r2 d1 linear", "r4 d2 linear", "r4 d1 2dh"}}));

// In double alone: rounding, which dropout amplifies besides, must not hide a draw that differs.
TEST(ModelOnRanks, DropsWhatOneRankDrops) {
  ModelConfig model = model_of(micro_model("swinv2", 2));
  const TrainingConfig training = micro_training(DType::kF64, kSteps);
  const std::vector<double> without = train(model, training, {1, 1}).front();
  model.moe.expert_dropout = 0.3;
  const std::vector<double> expected = train(model, training, {1, 1}).front();
  EXPECT_GT(std::abs(expected[0] - without[0]), 1e-4);
  for (const char* plan : {"r0 d1 linear", "r1 d1 2dh", "r2 d1 linear / r2 d2 2dh"}) {
    const PlanPair pair = parse_plan_pair(plan);
    expect_equal(train(model, training, {4, 2}, [&](RankContext&) { return PlanSource{.plans = pair}; }),
                 expected, kDoubleTolerance, plan);
  }
}

TEST(ModelOnRanks, TrainsAsOnOneWhileAPolicyChooses) {
  const ModelConfig model = model_of(micro_model("swinv2", 2, "linear"));
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    const TrainingConfig training = micro_training(dtype, kSteps);
    const std::vector<double> expected = train(model, training, {1, 1}).front();
    std::vector<std::vector<double>> losses(4);
    run_ranks({4, 2}, std::chrono::seconds(60), [&](Communicator& world) {
      RankContext context(world, Device::cpu());
      const ChosenPlans plans("online", context);
      Trainer trainer(model, training, plans.source(), context);
      open_branches(trainer.model());
      losses[static_cast<std::size_t>(world.rank())] = losses_of(trainer, context);
    });
    expect_equal(losses, expected, dtype == DType::kF64 ? kDoubleTolerance : kFloatTolerance,
                 fmt::format("online, {}", name(dtype)));
  }
}

}  // namespace
}  // namespace flex::testing
