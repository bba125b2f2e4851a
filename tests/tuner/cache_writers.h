#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <set>
#include <system_error>
#include <vector>

#include "base/read_file.h"
#include "tests/tuner/cache_cases.h"

/// Processes that write to one cache.
namespace flex::testing {

/// A child process that records trials, each with a number, and reports each number once it is committed.
class Writer {
 public:
  /// @param first the number of its first trial; at most `max_seconds` of them.
  Writer(const std::filesystem::path& cache, const std::filesystem::path& log, std::int64_t first,
         double max_seconds) {
    int ends[2];
    if (::pipe(ends) != 0) throw std::system_error(errno, std::system_category(), "pipe");
    process_ = ::fork();
    if (process_ == 0) {
      ::close(ends[0]);
      run(cache, log, first, max_seconds, ends[1]);
    }
    ::close(ends[1]);
    reports_ = ends[0];
  }
  ~Writer() { ::close(reports_); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  void kill() const { ::kill(process_, SIGKILL); }

  /// Waits for its end: how it ended, as of waitpid.
  [[nodiscard]] int wait() const {
    int status = -1;
    ::waitpid(process_, &status, 0);
    return status;
  }

  /// The numbers that were committed, as far as they were reported; after wait().
  [[nodiscard]] std::vector<std::int64_t> committed() const {
    std::vector<std::int64_t> numbers;
    std::int64_t number = 0;
    while (::read(reports_, &number, sizeof number) == sizeof number) numbers.push_back(number);
    return numbers;
  }

 private:
  [[noreturn]] static void run(const std::filesystem::path& path, const std::filesystem::path& log,
                               std::int64_t first, double max_seconds, int reports) {
    const int file = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::dup2(file, STDERR_FILENO);
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(max_seconds);
    TuningCache cache = TuningCache::open(path);
    for (std::int64_t number = first; std::chrono::steady_clock::now() < end; ++number) {
      const std::vector<Trial> trials = {trial_of("r1", {number + 300}, number),
                                         trial_of("r0", {number + 200}, number)};
      const TuningKey key = key_at(static_cast<std::int32_t>(number % 5));
      if (number % 2 == 0) {
        (void)cache.record(key, trials, kCompleteSearch);
      } else {
        (void)cache.record(key, trials);
      }
      if (!cache.is_persistent()) std::_Exit(2);
      if (::write(reports, &number, sizeof number) != sizeof number) std::_Exit(3);
    }
    std::_Exit(0);
  }

  pid_t process_ = -1;
  int reports_ = -1;
};

/// The numbers of the trials in a cache, each of which has both of its trials.
inline std::set<std::int64_t> numbers_in(TuningCache& cache) {
  std::set<std::int64_t> numbers;
  std::int64_t num_trials = 0;
  for (std::int32_t bucket = 0; bucket < 5; ++bucket) {
    for (const Trial& trial : cache.trials(key_at(bucket))) {
      numbers.insert(trial.measured_at_ns);
      ++num_trials;
    }
  }
  EXPECT_EQ(num_trials, 2 * static_cast<std::int64_t>(numbers.size())) << "half a transaction is there";
  return numbers;
}

/// `count` processes open one cache and write to it at once for `seconds`; nothing that they committed is
/// missing, and none said anything.
inline void expect_writers_agree(const std::filesystem::path& directory, int count, double seconds) {
  constexpr std::int64_t kApart = 1'000'000'000;
  const auto path = directory / "tuning.db";
  const auto log = directory / "log";
  std::vector<std::unique_ptr<Writer>> writers;
  for (int i = 0; i < count; ++i) writers.push_back(std::make_unique<Writer>(path, log, i * kApart, seconds));
  std::set<std::int64_t> expected;
  for (const auto& writer : writers) {
    EXPECT_EQ(writer->wait(), 0);
    const auto committed = writer->committed();
    EXPECT_GT(committed.size(), 0) << "a process wrote nothing";
    expected.insert(committed.begin(), committed.end());
  }
  EXPECT_EQ(read_file(log, 1 << 20), "");
  TuningCache cache = TuningCache::open(path);
  EXPECT_EQ(numbers_in(cache), expected);
  EXPECT_TRUE(cache.verify().empty());
  ::testing::Test::RecordProperty("trials", static_cast<int>(expected.size()));
}

}  // namespace flex::testing
