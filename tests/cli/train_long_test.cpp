#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "base/json.h"
#include "models/run_folder.h"
#include "tests/base/temporary_directory.h"
#include "tests/cli/program.h"

/// 2,000 steps of the micro model on four ranks, dropless, with online plans, recorded.
namespace flex {
namespace {

constexpr std::int64_t kSteps = 2000;
constexpr std::int64_t kSettled = 200;  // steps after which memory may not grow any more
constexpr double kMostGrowth = 0.02;

std::string write_config(const std::filesystem::path& path) {
  nlohmann::json json = read_json_file(FLEX_SOURCE_DIR "/models/configs/swinv2_moe_micro.json");
  json["moe"]["capacity_factor"] = 0;
  json["training"]["batch_size"] = 8;
  json["training"]["steps"] = kSteps;
  json["data"]["validation_images"] = 64;
  json["run"] = {
      {"log_every", 1}, {"evaluate_every", 100}, {"checkpoint_every", 100}, {"drift_check_every", 500}};
  std::ofstream(path) << json;
  return path.string();
}

pid_t start(const std::string& config, const std::string& folder, const std::string& err) {
  const pid_t child = ::fork();
  if (child == 0) {
    const int file = ::open(err.c_str(), O_WRONLY | O_CREAT, 0600);
    ::dup2(file, STDOUT_FILENO);
    ::dup2(file, STDERR_FILENO);
    ::execl(FLEX_PROGRAM, FLEX_PROGRAM, "train", config.c_str(), "-o", folder.c_str(), "--ranks", "4",
            "--policy", "online", "--cache", "none.db", "--record", nullptr);
    ::_exit(127);
  }
  return child;
}

std::int64_t resident_bytes(pid_t process) {
  std::ifstream file(fmt::format("/proc/{}/statm", process));
  std::int64_t pages = 0;
  std::int64_t resident = 0;
  file >> pages >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

std::int64_t steps_done(const std::filesystem::path& folder) {
  return std::ranges::count(read_all(RunPaths{folder}.metrics()), '\n');  // and a few evaluations
}

struct MemorySample {
  std::int64_t step = 0;
  std::int64_t bytes = 0;
};

TEST(TrainLong, MemoryIsFlatAndRanksDoNotDrift) {
  const TemporaryDirectory directory;
  const auto folder = directory / "run";
  const std::string err = (directory / "err").string();
  const pid_t child = start(write_config(directory / "micro.json"), folder.string(), err);
  std::vector<MemorySample> samples;
  int status = 0;
  while (::waitpid(child, &status, WNOHANG) == 0) {
    const MemorySample sample{steps_done(folder), resident_bytes(child)};
    if (sample.step >= kSettled && sample.bytes > 0) samples.push_back(sample);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
  ASSERT_TRUE(WIFEXITED(status));
  ASSERT_EQ(WEXITSTATUS(status), 0) << read_all(err);  // it compares the ranks' parameters every 500 steps
  ASSERT_GE(samples.size(), 10U) << "too few samples to tell";
  const std::int64_t first = samples.front().bytes;
  const auto most = std::ranges::max_element(samples, {}, &MemorySample::bytes);
  const double growth = static_cast<double>(most->bytes - first) / static_cast<double>(first);
  fmt::print("memory: {:.1f} MiB at step {}, at most {:.1f} MiB, at step {}: {:+.2f}%\n",
             static_cast<double>(first) / (1 << 20), samples.front().step,
             static_cast<double>(most->bytes) / (1 << 20), most->step, 100 * growth);
  EXPECT_LT(growth, kMostGrowth);
  const Result check = flexmoe("trace check " + RunPaths{folder}.trace(0).string());
  EXPECT_EQ(check.exit_code, 0) << check.out << check.err;
  EXPECT_EQ(read_all(err).find("were dropped"), std::string::npos) << read_all(err);
}

}  // namespace
}  // namespace flex
