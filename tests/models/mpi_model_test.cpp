#include <gtest/gtest.h>

#include "models/checkpoint/training_checkpoint.h"
#include "runtime/gather_texts.h"
#include "runtime/mpi_communicator.h"
#include "tests/base/temporary_directory.h"
#include "tests/models/chosen_plans.h"
#include "tests/models/training_runs.h"

/// A model on MPI processes trains as on one rank.
namespace flex::testing {
namespace {

using namespace std::chrono_literals;

constexpr double kTolerance = 1e-10;  // as in rank_equality_test.cpp

const MpiSession& session() {
  static const MpiSession one;
  return one;
}

class MpiModel : public ::testing::TestWithParam<const char*> {};

// Static plans, or a policy where it says so.
TEST_P(MpiModel, TrainsAsOnOneRank) {
  const ModelConfig model = model_of(micro_model("swinv2", 2, "linear"));
  const TrainingConfig training = micro_training(DType::kF64, 8);
  const std::vector<double> expected = train(model, training, {1, 1}).front();
  const auto world = make_mpi_world(session(), 2, 30s);
  RankContext context(*world, Device::cpu());
  const std::string plan = GetParam();
  const ChosenPlans plans(plan, context);
  Trainer trainer(model, training, plans.source(), context);
  open_branches(trainer.model());
  const std::vector<double> losses = losses_of(trainer, context);
  for (std::size_t step = 0; step < expected.size(); ++step)
    EXPECT_NEAR(losses[step], expected[step], kTolerance * expected[step]) << plan << ", step " << step;
}

// Processes write a checkpoint together, and one rank of another job goes on from it.
TEST(MpiCheckpoint, GoesOnOnOneRank) {
  const ModelConfig model = model_of(micro_model("swinv2", 2, "linear"));
  const TrainingConfig training = micro_training(DType::kF64, 4);
  const auto world = make_mpi_world(session(), 2, 30s);
  RankContext context(*world, Device::cpu());
  std::optional<TemporaryDirectory> directory;  // rank 0's
  if (world->rank() == 0) directory.emplace();
  const std::filesystem::path folder =
      gather_texts_blocking(directory ? directory->path().string() : std::string(), *world)[0];
  Trainer trainer(model, training, {}, context);
  save_checkpoint(folder, trainer);
  const std::vector<double> losses = losses_of(trainer, context);
  if (world->rank() == 0) {
    std::vector<double> alone;
    run_ranks({1, 1}, 60s, [&](Communicator& communicator) {
      RankContext one(communicator, Device::cpu());
      Trainer other(model, training, {}, one);
      EXPECT_TRUE(resume_from(folder, other).has_value());
      alone = losses_of(other, one);
    });
    for (std::size_t step = 0; step < alone.size(); ++step)
      EXPECT_NEAR(losses[step], alone[step], kTolerance * alone[step]) << "step " << step;
  }
  EXPECT_EQ(resume_from(folder, trainer)->step, 0);
  EXPECT_EQ(losses_of(trainer, context), losses);
}

INSTANTIATE_TEST_SUITE_P(Plans, MpiModel,
                         ::testing::Values("r0 d1 linear", "r1 d2 2dh", "r2 d1 linear / r2 d2 2dh",
                                           "online"));

}  // namespace
}  // namespace flex::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  static_cast<void>(flex::testing::session());  // MPI lives as long as the process
  return RUN_ALL_TESTS();
}
