#include "models/training_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/read_file.h"
#include "models/checkpoint/checkpoint_folder.h"
#include "models/config_json.h"
#include "tests/base/temporary_directory.h"
#include "tests/models/small_run.h"
#include "tests/support/compare.h"

/// Training runs in folders: interrupted, damaged, resumed, refused.
namespace flex::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr std::int64_t kSteps = 11;

std::string bytes_of(const std::filesystem::path& path) { return read_file(path, 1 << 26); }

std::string last_parameters(const std::filesystem::path& folder) {
  const auto found = find_latest_checkpoint(RunPaths{folder}.checkpoints());
  EXPECT_TRUE(found.path.has_value());
  return found.path ? bytes_of(*found.path / "model.safetensors") : "";
}

void damage(const std::filesystem::path& path) {
  std::fstream file(path, std::ios::in | std::ios::out);
  file.seekp(-1, std::ios::end);
  file.put('?');
}

// Stopped at step 6, where no checkpoint is due, and again at step 8, where one is.
TEST(TrainingRun, ResumedRunEqualsOneThatNobodyStopped) {
  const TemporaryDirectory directory;
  const ModelFile file = small_run(kSteps);
  const auto whole = directory / "whole";
  const auto parts = directory / "parts";
  const RunPart alone = run_part(file, whole, 2, false);
  EXPECT_FALSE(alone.outcome.was_stopped);
  EXPECT_EQ(alone.outcome.num_done, kSteps);
  ASSERT_TRUE(alone.outcome.evaluation.has_value());
  EXPECT_EQ(alone.outcome.evaluation->num_samples(), 21);

  RunPart part = run_part(file, parts, 2, false, 6);
  EXPECT_TRUE(part.outcome.was_stopped);
  EXPECT_EQ(part.outcome.num_done, 6);
  part = run_part(file, parts, 2, true, 8);
  EXPECT_EQ(part.start.step, 6);
  EXPECT_EQ(part.outcome.num_done, 8);
  part = run_part(file, parts, 2, true);
  EXPECT_EQ(part.start.step, 8);
  EXPECT_FALSE(part.outcome.was_stopped);

  const std::vector<double> losses = logged_losses(whole);
  EXPECT_THAT(losses, SizeIs(kSteps));
  EXPECT_EQ(logged_losses(parts), losses);
  EXPECT_EQ(last_parameters(parts), last_parameters(whole));
  EXPECT_EQ(bytes_of(RunPaths{parts}.evaluation()), bytes_of(RunPaths{whole}.evaluation()));
  const auto evaluations = read_metrics(RunPaths{parts}.metrics()).evaluations;
  ASSERT_THAT(evaluations, SizeIs(3));  // after steps 5, 10 and 11
  EXPECT_EQ(evaluations.back().step, kSteps);
  EXPECT_EQ(evaluations.back().top1, alone.outcome.evaluation->top1());
}

TEST(TrainingRun, DamagedCheckpointIsNamedAndAnOlderOneTaken) {
  const TemporaryDirectory directory;
  const ModelFile file = small_run(kSteps);
  const auto folder = directory / "run";
  static_cast<void>(run_part(file, folder, 1, false));
  const std::vector<double> losses = logged_losses(folder);
  const RunPaths paths{folder};
  damage(paths.checkpoints() / checkpoint_name(kSteps) / "model.safetensors");
  const RunPart part = run_part(file, folder, 1, true);
  EXPECT_EQ(part.start.step, 8);
  ASSERT_THAT(part.notices, SizeIs(1));
  EXPECT_THAT(part.notices[0], HasSubstr("damaged checkpoint: "));
  EXPECT_THAT(part.notices[0], HasSubstr("step_00000011"));
  EXPECT_EQ(logged_losses(folder), losses);

  for (const auto& checkpoint : list_checkpoints(paths.checkpoints()))
    damage(checkpoint / "model.safetensors");
  EXPECT_THAT(error_text([&] { static_cast<void>(run_part(file, folder, 1, true)); }),
              HasSubstr("no checkpoint is whole: "));
  EXPECT_EQ(logged_losses(folder), losses) << "the run stays as it was";
}

// Without dropping tokens the number of ranks changes nothing but the order of sums.
TEST(TrainingRun, GoesOnOnAnyNumberOfRanks) {
  const TemporaryDirectory directory;
  ModelFile file = small_run(8, 4, DType::kF64);
  const auto whole = directory / "whole";
  static_cast<void>(run_part(file, whole, 4, false));
  const std::vector<double> losses = logged_losses(whole);
  for (const int ranks : {1, 2, 4, 8}) {
    const auto folder = directory / std::to_string(ranks);
    static_cast<void>(run_part(file, folder, 4, false, 4));
    const RunPart part = run_part(file, folder, ranks, true);
    EXPECT_EQ(part.start.step, 4);
    const std::vector<double> resumed = logged_losses(folder);
    ASSERT_EQ(resumed.size(), losses.size());
    for (std::size_t step = 0; step < losses.size(); ++step)
      EXPECT_NEAR(resumed[step], losses[step], 1e-10 * losses[step]) << ranks << " ranks, step " << step;
  }
}

TEST(TrainingRun, WritesWhatAReaderNeeds) {
  const TemporaryDirectory directory;
  ModelFile file = small_run(3);
  file.training.epochs = 0.6;  // of 40 images in batches of 8: 3 steps
  file.training.warmup_steps = 1;
  const auto folder = directory / "deep/run";
  static_cast<void>(run_part(file, folder, 1, false));
  const RunPaths paths{folder};
  const ModelFile written = read_model_file(paths.config());
  EXPECT_EQ(written.training.steps, 3);
  EXPECT_EQ(written, resolve(file, open_training_data(file)));
  EXPECT_EQ(read_class_names(paths.classes()),
            make_image_set(file.data, DataSplit::kTraining)->class_names());
  EXPECT_EQ(read_json_file(paths.evaluation())["samples"], 21);
}

TEST(TrainingRun, BeginsWithParametersOfAFile) {
  const TemporaryDirectory directory;
  ModelFile file = small_run(1);
  static_cast<void>(run_part(file, directory / "first", 1, false));
  const auto parameters =
      RunPaths{directory / "first"}.checkpoints() / checkpoint_name(1) / "model.safetensors";
  file.run.init = parameters;
  file.model.num_classes = 7;
  file.data.procedural.num_classes = 7;
  const RunPart part = run_part(file, directory / "second", 2, false);
  ASSERT_THAT(part.notices, SizeIs(1));
  EXPECT_THAT(part.notices[0], HasSubstr("parameters were read; head.fc"));
  EXPECT_EQ(read_model_file(RunPaths{directory / "second"}.config()).run.init, parameters);
  file.run.init = directory / "nothing.safetensors";
  EXPECT_THROW(static_cast<void>(run_part(file, directory / "third", 1, false)), FileError);
  EXPECT_FALSE(std::filesystem::exists(directory / "third"));
}

TEST(TrainingRun, WhatCannotBeLeavesNothingBehind) {
  const TemporaryDirectory directory;
  const auto folder = directory / "run";
  const auto error = [&](const ModelFile& file, int ranks) {
    const std::string text = error_text([&] { static_cast<void>(run_part(file, folder, ranks, false)); });
    EXPECT_FALSE(std::filesystem::exists(folder)) << text;
    return text;
  };
  EXPECT_THAT(error(small_run(3, 3), 2), HasSubstr("3"));  // experts do not divide over the ranks
  EXPECT_THAT(error(small_run(3), 3), HasSubstr("must be a multiple of the 3 ranks"));
  ModelFile classes = small_run(3);
  classes.data.procedural.num_classes = 6;
  EXPECT_EQ(error(classes, 1), "the images are of 6 classes, and num_classes of the model is 5; set it to 6");
  ModelFile mixed = small_run(3);
  mixed.data.augment = AugmentConfig::swin();
  EXPECT_THAT(error(mixed, 8), HasSubstr("mixup and cutmix mix pairs of neighbours"));
}

TEST(TrainingRun, FolderOfAnotherRunIsRefused) {
  const TemporaryDirectory directory;
  const ModelFile file = small_run(2);
  const auto folder = directory / "run";
  const auto error = [&](const ModelFile& other, const std::filesystem::path& path, bool resumes) {
    return error_text([&] { static_cast<void>(run_part(other, path, 1, resumes)); });
  };
  static_cast<void>(run_part(file, folder, 1, false));
  const std::string before = bytes_of(RunPaths{folder}.metrics());
  EXPECT_EQ(error(file, folder, false),
            folder.string() + ": holds a run; add --resume to go on with it, or name another folder");
  EXPECT_EQ(error(file, directory.path(), false),
            directory.path().string() + ": is not empty, and holds no run; name another folder");
  ModelFile shorter = small_run(1);
  EXPECT_THAT(error(shorter, folder, true), HasSubstr("has done 2 steps; training.steps is 1"));
  ModelFile wider = small_run(2, 4);
  EXPECT_THAT(error(wider, folder, true), HasSubstr("is of another model: moe.num_experts was 2, is 4"));
  EXPECT_EQ(bytes_of(RunPaths{folder}.metrics()), before);
  // More steps than before are another training, and said.
  const RunPart longer = run_part(small_run(4), folder, 1, true);
  EXPECT_THAT(longer.notices, ElementsAre("training.steps was 2, is 4"));
  EXPECT_THAT(logged_losses(folder), SizeIs(4));
}

TEST(RunFolder, OneJobAtATime) {
  const TemporaryDirectory directory;
  run_ranks({1, 1}, std::chrono::seconds(60), [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    const auto path = directory / "run";
    {
      const RunFolder first(path, false, context.control());
      EXPECT_EQ(error_text([&] { const RunFolder second(path, true, context.control()); }),
                path.string() + ": another process trains in it; wait for its end, or end it");
    }
    EXPECT_FALSE(std::filesystem::exists(path)) << "nothing was done in it";
    const RunFolder third(path / "", false, context.control());
    EXPECT_EQ(third.paths().folder, path);
  });
}

TEST(RunFolder, RecordingsBeyondTheStartGo) {
  const TemporaryDirectory directory;
  const ModelFile file = small_run(3);
  const auto folder = directory / "run";
  static_cast<void>(run_part(file, folder, 1, false));
  const RunPaths paths{folder};
  EXPECT_EQ(paths.trace(0).filename(), "trace.jsonl.gz");
  EXPECT_EQ(paths.trace(7).filename(), "trace.from_00000007.jsonl.gz");
  for (const std::int64_t step : {0, 2, 7}) std::ofstream(paths.trace(step)) << "x";
  std::ofstream(folder / "trace.from_x7.jsonl.gz") << "of somebody else";
  static_cast<void>(run_part(file, folder, 1, true));
  EXPECT_TRUE(std::filesystem::exists(paths.trace(0)));
  EXPECT_TRUE(std::filesystem::exists(paths.trace(2)));
  EXPECT_FALSE(std::filesystem::exists(paths.trace(7)));
  EXPECT_TRUE(std::filesystem::exists(folder / "trace.from_x7.jsonl.gz"));
}

}  // namespace
}  // namespace flex::testing
