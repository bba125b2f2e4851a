#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "models/run_folder.h"
#include "tests/base/temporary_directory.h"
#include "tests/cli/program.h"
#include "tests/cli/train_runs.h"
#include "traces/training_metrics.h"

/// `flexmoe train` in a folder, as a user calls it.
namespace flex {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

std::set<std::string> names_in(const std::filesystem::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.insert(entry.path().filename().string());
  return names;
}

constexpr int kFailed = 1;
constexpr int kBadInput = 2;

std::string error_of(const std::string& arguments, int exit_code = kBadInput) {
  const Result result = flexmoe(arguments);
  EXPECT_EQ(result.exit_code, exit_code) << result.err;
  EXPECT_EQ(std::ranges::count(result.err, '\n'), 1) << result.err;
  return result.err;
}

TEST(TrainProgram, LeavesAFolder) {
  const TemporaryDirectory directory;
  const std::string config = write_small_training(directory / "small.json");
  const auto run = directory / "run";
  const Result result = flexmoe("train " + config + " -o " + run.string() +
                                " --ranks 2 --policy online --cache none.db --record");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("6 steps are done"));
  EXPECT_THAT(result.out, HasSubstr("top-1"));
  EXPECT_THAT(names_in(run), UnorderedElementsAre("config.json", "classes.json", "metrics.jsonl",
                                                  "checkpoints", "evaluation.json", "trace.jsonl.gz"));
  EXPECT_THAT(names_in(run / "checkpoints"),
              UnorderedElementsAre("step_00000002", "step_00000004", "step_00000006"));
  EXPECT_EQ(flexmoe("trace check " + (run / "trace.jsonl.gz").string()).exit_code, 0);
  EXPECT_EQ(flexmoe("report " + (run / "metrics.jsonl").string() + " -o " + (directory / "r.html").string())
                .exit_code,
            0);
}

TEST(TrainProgram, GoesOnFromItsFolderAlone) {
  const TemporaryDirectory directory;
  const std::string config = write_small_training(directory / "small.json");
  const std::string whole = (directory / "whole").string();
  const std::string parts = (directory / "parts").string();
  ASSERT_EQ(flexmoe("train " + config + " -o " + whole + " --ranks 2").exit_code, 0);
  ASSERT_EQ(flexmoe("train " + config + " -o " + parts + " --ranks 2 --steps 3 --record").exit_code, 0);
  // As if the program had been killed after the checkpoint of step 2.
  std::filesystem::remove_all(RunPaths{parts}.checkpoints() / "step_00000003");
  const Result resumed = flexmoe("train " + config + " -o " + parts + " --resume --ranks 2 --record");
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_THAT(resumed.err, HasSubstr("training.steps was 3, is 6"));
  for (const std::int64_t step : {0, 2})
    EXPECT_EQ(flexmoe("trace check " + RunPaths{parts}.trace(step).string()).exit_code, 0) << step;
  const TrainingMetrics expected = read_metrics(RunPaths{whole}.metrics());
  const TrainingMetrics metrics = read_metrics(RunPaths{parts}.metrics());
  ASSERT_THAT(metrics.steps, SizeIs(6));
  for (std::size_t step = 0; step < 6; ++step)
    EXPECT_EQ(metrics.steps[step].step, static_cast<std::int64_t>(step) + 1);
  // A run that is over has nothing left to do.
  const Result again = flexmoe("train -o " + parts + " --resume");
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.out, HasSubstr("6 steps are done"));
}

// Without dropping tokens the number of ranks changes nothing but the order of sums.
TEST(TrainProgram, FourRanksGoOnAsOneTwoOrEight) {
  const TemporaryDirectory directory;
  const std::string config = write_small_training(directory / "small.json", {.capacity_factor = 0});
  const std::string run = (directory / "run").string();
  ASSERT_EQ(flexmoe("train " + config + " -o " + run + " --ranks 4").exit_code, 0);
  std::vector<double> expected;
  for (const int ranks : {4, 1, 2, 8}) {
    const std::string copy = (directory / std::to_string(ranks)).string();
    std::filesystem::copy(run, copy, std::filesystem::copy_options::recursive);
    const Result result =
        flexmoe("train --steps 10 " + config + " --resume -o " + copy + " --ranks " + std::to_string(ranks));
    ASSERT_EQ(result.exit_code, 0) << result.err;
    std::vector<double> losses;
    for (const StepMetrics& step : read_metrics(RunPaths{copy}.metrics()).steps) losses.push_back(step.loss);
    ASSERT_THAT(losses, SizeIs(10));
    if (expected.empty()) expected = losses;
    for (std::size_t step = 0; step < losses.size(); ++step)
      EXPECT_NEAR(losses[step], expected[step], 1e-4 * expected[step]) << ranks << " ranks, step " << step;
  }
}

TEST(TrainProgram, MistakesAreOneLineAndLeaveNothing) {
  const TemporaryDirectory directory;
  const auto run = directory / "run";
  const std::string config = (directory / "small.json").string();
  const auto error = [&](const SmallTraining& small, const std::string& options = "",
                         int exit_code = kBadInput) {
    write_small_training(config, small);
    const std::string text = error_of("train " + config + " -o " + run.string() + " " + options, exit_code);
    EXPECT_THAT(names_in(directory.path()), UnorderedElementsAre("small.json")) << text;
    return text;
  };
  EXPECT_THAT(error({.run = R"("checkpoint_evry": 2)"}),
              HasSubstr("run.checkpoint_evry: unknown key; did you mean \"checkpoint_every\"?"));
  EXPECT_THAT(error({.data = R"("kind": "folder", "train": "nowhere")"}, "", kFailed), HasSubstr("nowhere"));
  EXPECT_THAT(error({.data = R"("kind": "folder")"}), HasSubstr("data.train: is missing"));
  EXPECT_THAT(error({.data = R"("classes": 6)"}),
              HasSubstr("data.classes: is 6; the model's num_classes is 5"));
  EXPECT_THAT(error({.experts = 3}, "--ranks 2"), HasSubstr("3"));
  EXPECT_THAT(error({}, "--ranks 3"), HasSubstr("training.batch_size: is 8"));
  EXPECT_THAT(error({}, "--data folder:" + (directory / "x").string()), HasSubstr("is no folder"));
  EXPECT_THAT(error({}, "--data folders:x"), HasSubstr("did you mean folder?"));
  EXPECT_THAT(error({}, "--plan r9"), HasSubstr("r9"));
  EXPECT_THAT(error({}, "--record x.jsonl --policy onlin"), HasSubstr("onlin"));
  EXPECT_THAT(error({}, "--metrics m.jsonl"), HasSubstr("--metrics is for training without a folder"));
  EXPECT_THAT(error_of("train " + config + " --resume"), HasSubstr("name it with -o RUN"));
  EXPECT_THAT(error_of("train -o " + run.string() + " --resume"), HasSubstr("holds no run to go on with"));
  EXPECT_THAT(error_of("train -o " + run.string()), HasSubstr("the model's file is missing"));
}

TEST(TrainProgram, AnotherRunsFolderIsRefused) {
  const TemporaryDirectory directory;
  const std::string config = write_small_training(directory / "small.json");
  const std::string command = "train " + config + " -o " + (directory / "run").string();
  ASSERT_EQ(flexmoe(command).exit_code, 0);
  EXPECT_THAT(error_of(command), HasSubstr("holds a run; add --resume to go on with it"));
}

}  // namespace
}  // namespace flex
