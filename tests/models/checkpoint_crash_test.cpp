#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "base/philox.h"
#include "models/checkpoint/checkpoint_folder.h"
#include "models/checkpoint/checkpoint_manifest.h"
#include "models/checkpoint/training_checkpoint.h"
#include "tests/base/temporary_directory.h"
#include "tests/models/training_runs.h"

/// A process that is killed while it writes checkpoints.
namespace flex::testing {
namespace {

constexpr int kRounds = 20;
constexpr std::int64_t kBatchSeed = 11;

ModelConfig micro() { return model_of(micro_model("swinv2", 4)); }
TrainingConfig training() { return micro_training(DType::kF32, 1'000'000); }

bool has_leftover(const std::filesystem::path& folder) {
  std::error_code missing;
  for (const auto& entry : std::filesystem::directory_iterator(folder, missing)) {
    if (entry.path().filename().string().starts_with(".")) return true;
  }
  return false;
}

// Trains on from the newest checkpoint until `end`, and writes one after every step.
void train_on(const std::filesystem::path& folder, std::int64_t end, std::vector<double>* losses) {
  run_ranks({2, 1}, std::chrono::seconds(60), [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    Trainer trainer(micro(), training(), {}, context);
    static_cast<void>(resume_from(folder, trainer));
    ProceduralImages images(trainer.model().config(), DType::kF32, trainer.local_batch(), kBatchSeed);
    while (trainer.num_steps() < end) {
      const std::int64_t first =
          trainer.num_steps() * trainer.training().batch_size + world.rank() * trainer.local_batch();
      const StepResult result = trainer.step_blocking(images.make(first));
      if (losses != nullptr && world.rank() == 0) losses->push_back(result.loss);
      save_checkpoint(folder, trainer, 2);
    }
  });
}

// Each round goes on from what the one before left behind. However it ended, the newest whole checkpoint is
// never an older one than before, and no file that is not whole is taken for one; in the end the losses are
// those of a run that nobody killed.
TEST(CheckpointCrash, ARunThatIsKilledGoesOnWithTheSameLosses) {
  const TemporaryDirectory directory;
  const std::filesystem::path folder = directory / "killed";
  PhiloxStream random(7, 0);
  const auto begin = std::chrono::steady_clock::now();
  train_on(directory / "timed", 2, nullptr);
  const auto two_steps = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin);
  std::int64_t newest = 0;
  int killed = 0;
  int interrupted = 0;  // in the middle of a checkpoint
  for (int round = 0; round < kRounds; ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      train_on(folder, 1'000'000, nullptr);
      ::_exit(0);
    }
    // From before the first write to behind the second.
    std::this_thread::sleep_for(two_steps * (0.3 + 1.2 * random.uniform()));
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    killed += WIFSIGNALED(status) ? 1 : 0;
    interrupted += has_leftover(folder) ? 1 : 0;
    const FoundCheckpoint found = find_latest_checkpoint(folder);
    EXPECT_TRUE(found.damaged.empty()) << found.damaged.front();
    if (!found.path) continue;
    const std::int64_t step = read_manifest(*found.path).state.step;
    EXPECT_GE(step, newest);
    newest = step;
  }
  EXPECT_EQ(killed, kRounds);
  EXPECT_GE(interrupted, 1) << "no round was killed while it wrote";
  ASSERT_GE(newest, 1) << "no round came to write a checkpoint";
  RecordProperty("interrupted", interrupted);
  RecordProperty("newest_step", static_cast<int>(newest));
  std::vector<double> rest;
  train_on(folder, newest + 2, &rest);
  EXPECT_EQ(rest.size(), 2U);
  EXPECT_FALSE(has_leftover(folder));
  std::vector<double> all;
  train_on(directory / "whole", newest + 2, &all);
  ASSERT_EQ(all.size(), static_cast<std::size_t>(newest + 2));
  EXPECT_EQ(rest, std::vector<double>(all.end() - 2, all.end()));
}

}  // namespace
}  // namespace flex::testing
