#include <gtest/gtest.h>

#include "runtime/mpi_communicator.h"
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
