#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "base/philox.h"
#include "models/checkpoint/checkpoint_folder.h"
#include "models/run_folder.h"
#include "tests/base/temporary_directory.h"
#include "tests/cli/program.h"
#include "tests/cli/train_runs.h"
#include "traces/training_metrics.h"

/// `flexmoe train` that is killed at any time, FLEX_KILL_ROUNDS times, and goes on.
namespace flex {
namespace {

using std::chrono::duration;
using std::chrono::steady_clock;

constexpr int kRounds = FLEX_KILL_ROUNDS;
constexpr std::int64_t kStepsOfARound = 12;

// Starts the program, with stderr in a file.
pid_t start(const std::string& config, const std::string& folder, const std::string& err = "/dev/null") {
  const pid_t child = ::fork();
  if (child == 0) {
    const int file = ::open(err.c_str(), O_WRONLY | O_CREAT, 0600);
    ::dup2(file, STDOUT_FILENO);
    ::dup2(file, STDERR_FILENO);
    ::execl(FLEX_PROGRAM, FLEX_PROGRAM, "train", config.c_str(), "-o", folder.c_str(), "--resume", "--ranks",
            "2", "--record", nullptr);
    ::_exit(127);
  }
  return child;
}

// Starts the program, kills it after `seconds`, and says whether it still ran then.
bool run_and_kill(const std::string& config, const std::string& folder, double seconds) {
  const pid_t child = start(config, folder);
  std::this_thread::sleep_for(duration<double>(seconds));
  EXPECT_EQ(::kill(child, SIGKILL), 0);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
  return WIFSIGNALED(status);
}

TEST(TrainCrash, RunThatIsKilledEqualsOneThatNobodyKilled) {
  const TemporaryDirectory directory;
  const std::string config = write_small_training(
      directory / "small.json", {.steps = kRounds * kStepsOfARound,
                                 .run = R"("log_every": 1, "checkpoint_every": 2, "evaluate_every": 9)"});
  const std::string whole = (directory / "whole").string();
  const std::string killed = (directory / "killed").string();
  const std::string options = " --ranks 2 --record -o ";
  const auto begin = steady_clock::now();
  ASSERT_EQ(flexmoe("train " + config + options + whole).exit_code, 0);
  const double whole_s = duration<double>(steady_clock::now() - begin).count();

  PhiloxStream random(5, 0);
  int num_killed = 0;
  for (int round = 0; round < kRounds; ++round) {
    num_killed += run_and_kill(config, killed, random.uniform() * 1.5 * whole_s / kRounds) ? 1 : 0;
    const FoundCheckpoint found = find_latest_checkpoint(RunPaths{killed}.checkpoints());
    EXPECT_TRUE(found.damaged.empty()) << found.damaged.front();
  }
  EXPECT_GE(num_killed, kRounds - 2) << "the run was over too soon";
  const Result last = flexmoe("train --resume " + config + options + killed);
  ASSERT_EQ(last.exit_code, 0) << last.err;

  const TrainingMetrics expected = read_metrics(RunPaths{whole}.metrics());
  const TrainingMetrics metrics = read_metrics(RunPaths{killed}.metrics());
  ASSERT_EQ(metrics.steps.size(), static_cast<std::size_t>(kRounds * kStepsOfARound));
  ASSERT_EQ(expected.steps.size(), metrics.steps.size());
  for (std::size_t i = 0; i < metrics.steps.size(); ++i) {
    EXPECT_EQ(metrics.steps[i].step, expected.steps[i].step);
    EXPECT_EQ(metrics.steps[i].loss, expected.steps[i].loss) << "step " << i + 1;
    EXPECT_EQ(metrics.steps[i].gradient_norm, expected.steps[i].gradient_norm) << "step " << i + 1;
  }
  ASSERT_EQ(metrics.evaluations.size(), expected.evaluations.size());
  for (std::size_t i = 0; i < metrics.evaluations.size(); ++i)
    EXPECT_EQ(metrics.evaluations[i].loss, expected.evaluations[i].loss);
  EXPECT_EQ(read_all(RunPaths{killed}.evaluation()), read_all(RunPaths{whole}.evaluation()));
  const std::string parameters =
      "checkpoints/" + checkpoint_name(kRounds * kStepsOfARound) + "/model.safetensors";
  EXPECT_EQ(read_all(killed + "/" + parameters), read_all(whole + "/" + parameters));
}

TEST(TrainCrash, CtrlCEndsTheStepAndSaysHowToGoOn) {
  const TemporaryDirectory directory;
  const std::string config =
      write_small_training(directory / "small.json", {.steps = 100'000, .run = R"("checkpoint_every": 0)"});
  const std::string folder = (directory / "run").string();
  const std::string err = (directory / "err").string();
  const pid_t child = start(config, folder, err);
  const auto deadline = steady_clock::now() + std::chrono::seconds(60);
  while (read_all(RunPaths{folder}.metrics()).empty() && steady_clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  ASSERT_EQ(::kill(child, SIGINT), 0);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 130);
  EXPECT_NE(read_all(err).find("go on with: flexmoe train -o " + folder + " --resume --ranks 2 --record"),
            std::string::npos)
      << read_all(err);
  const FoundCheckpoint found = find_latest_checkpoint(RunPaths{folder}.checkpoints());
  ASSERT_TRUE(found.path.has_value());
  EXPECT_EQ(flexmoe("trace check " + RunPaths{folder}.trace(0).string()).exit_code, 0);
}

}  // namespace
}  // namespace flex
