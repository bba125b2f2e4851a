#include <fmt/format.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "tests/models/chosen_plans.h"
#include "tests/models/training_runs.h"
#include "tests/runtime/cuda_ranks.h"

/// A model on ranks that share the first GPU trains as on one rank, under static plans and while a policy
/// chooses: dropless, so that it does not matter how images are spread. Ranks are threads, or NCCL's
/// processes, by what this is linked with.
namespace flex::testing {
namespace {

// As rank_equality_test.cpp has it for fp32 on the CPU.
constexpr double kTolerance = 1e-4;
constexpr std::int64_t kSteps = 20;

struct Job {
  int ranks;
  std::int64_t experts;
  const char* block;
  std::vector<const char*> plans;
};
void PrintTo(const Job& job, std::ostream* out) {
  *out << fmt::format("{}_ranks_{}_experts_{}", job.ranks, job.experts, job.block);
}

// Losses of one rank, under the default plan.
std::vector<double> losses_of_one(const ModelConfig& model, const TrainingConfig& training) {
  std::vector<double> losses;
  run_ranks({1, 1}, kPatient, [&](Communicator& world) {
    RankContext context(world, kGpu);
    Trainer trainer(model, training, {}, context);
    open_branches(trainer.model());
    losses = losses_of(trainer, context);
  });
  return losses;
}

void expect_alike_on_all_ranks(double loss, Communicator& world, const std::string& what) {
  const std::array<std::int64_t, 1> own{std::bit_cast<std::int64_t>(loss)};
  std::vector<std::int64_t> all(static_cast<std::size_t>(world.size()));
  world.gather_host_blocking(own, all);
  for (const std::int64_t other : all) EXPECT_EQ(other, own[0]) << what << ": ranks tell different losses";
}

class CudaModelOnRanks : public ::testing::TestWithParam<Job> {
 protected:
  void SetUp() override { FLEX_SKIP_WITHOUT_CUDA(); }
};

TEST_P(CudaModelOnRanks, TrainsAsOnOne) {
  const Job& job = GetParam();
  const ModelConfig model = model_of(micro_model(job.block, job.experts));
  const TrainingConfig training = micro_training(DType::kF32, kSteps);
  const std::vector<double> expected = losses_of_one(model, training);
  ASSERT_EQ(expected.size(), kSteps);
  EXPECT_NE(expected.back(), expected.front());
  run_cuda_ranks({job.ranks, 2}, kPatient, [&](Communicator& world) {
    RankContext context(world, kGpu);
    for (const std::string plan : job.plans) {
      const ChosenPlans plans(plan, context);
      Trainer trainer(model, training, plans.source(), context);
      open_branches(trainer.model());
      const std::vector<double> losses = losses_of(trainer, context);
      for (std::size_t step = 0; step < expected.size(); ++step) {
        EXPECT_NEAR(losses[step], expected[step], kTolerance * std::abs(expected[step]))
            << plan << ", step " << step;
      }
      expect_alike_on_all_ranks(losses.back(), world, plan);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(
    Jobs, CudaModelOnRanks,
    ::testing::Values(Job{2, 4, "swinv2", {"r1 d1 linear", "r0 d1 linear", "r1 d2 linear", "online"}},
                      Job{4, 2, "swin_moe", {"r1 d1 2dh", "r2 d1 linear / r2 d2 2dh", "online"}}),
    ::testing::PrintToStringParamName());

}  // namespace
}  // namespace flex::testing
