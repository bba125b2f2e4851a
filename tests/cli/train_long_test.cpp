#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
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

// A sample may fall into a checkpoint or an evaluation, which take some memory for a moment: what a run holds
// is the median over 200 steps, of which they are a small part. What grew from window to window would show.
std::vector<std::int64_t> medians_of_windows(const std::vector<MemorySample>& samples) {
  std::map<std::int64_t, std::vector<std::int64_t>> windows;
  for (const MemorySample& sample : samples) {
    if (sample.step >= kSettled && sample.step < kSteps)
      windows[sample.step / kSettled].push_back(sample.bytes);
  }
  std::vector<std::int64_t> medians;
  for (auto& [window, bytes] : windows) {
    const auto middle = bytes.begin() + std::ssize(bytes) / 2;
    std::ranges::nth_element(bytes, middle);
    medians.push_back(*middle);
  }
  return medians;
}

TEST(TrainLong, MemoryIsFlatAndRanksDoNotDrift) {
  const TemporaryDirectory directory;
  const auto folder = directory / "run";
  const std::string err = (directory / "err").string();
  const pid_t child = start(write_config(directory / "micro.json"), folder.string(), err);
  std::vector<MemorySample> samples;
  int status = 0;
  while (::waitpid(child, &status, WNOHANG) == 0) {
    const MemorySample sample{steps_done(folder), resident_bytes(child)};
    if (sample.bytes > 0) samples.push_back(sample);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
  ASSERT_TRUE(WIFEXITED(status));
  ASSERT_EQ(WEXITSTATUS(status), 0) << read_all(err);  // it compares the ranks' parameters every 500 steps
  const std::vector<std::int64_t> medians = medians_of_windows(samples);
  ASSERT_EQ(std::ssize(medians), kSteps / kSettled - 1) << "a window without samples tells nothing";
  const auto most = *std::ranges::max_element(medians);
  const double growth = static_cast<double>(most - medians.front()) / static_cast<double>(medians.front());
  const auto peak = std::ranges::max_element(samples, {}, &MemorySample::bytes);
  constexpr double kMiB = 1 << 20;
  for (const std::int64_t median : medians) fmt::print("{:.1f} ", static_cast<double>(median) / kMiB);
  fmt::print(
      "MiB: medians of {} steps, from step {} on: at most {:+.2f}%; largest sample {:.1f} MiB, at step {}\n",
      kSettled, kSettled, 100 * growth, static_cast<double>(peak->bytes) / kMiB, peak->step);
  EXPECT_LT(growth, kMostGrowth);
  const Result check = flexmoe("trace check " + RunPaths{folder}.trace(0).string());
  EXPECT_EQ(check.exit_code, 0) << check.out << check.err;
  EXPECT_EQ(read_all(err).find("were dropped"), std::string::npos) << read_all(err);
}

}  // namespace
}  // namespace flex
