#include "base/log.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace flex {
namespace {

/// Sets the level for one test.
class LevelScope {
 public:
  explicit LevelScope(LogLevel level) : before_(log_level()) { set_log_level(level); }
  ~LevelScope() { set_log_level(before_); }

 private:
  LogLevel before_;
};

TEST(Log, ParsesTheNamesOfLevels) {
  EXPECT_EQ(parse_log_level("trace"), LogLevel::kTrace);
  EXPECT_EQ(parse_log_level("warn"), LogLevel::kWarning);
  EXPECT_EQ(parse_log_level("off"), LogLevel::kOff);
  EXPECT_EQ(parse_log_level("WARN"), std::nullopt);
  EXPECT_EQ(parse_log_level(""), std::nullopt);
}

TEST(Log, WritesOneShortLineToStderr) {
  const LevelScope scope(LogLevel::kInfo);
  testing::internal::CaptureStderr();
  log_debug("hidden {}", 1);
  log_info("rank {} of {}", 3, 8);
  log_warning("{}", "{} stays as it is");
  log_error("bad {:.2f}", 1.0 / 3.0);
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "flexmoe info: rank 3 of 8\nflexmoe warning: {} stays as it is\nflexmoe error: bad 0.33\n");
}

TEST(Log, OffWritesNothing) {
  const LevelScope scope(LogLevel::kOff);
  testing::internal::CaptureStderr();
  log_error("x");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(log_level(), LogLevel::kOff);
}

TEST(Log, LinesOfThreadsStayWhole) {
  constexpr int kNumThreads = 4;
  constexpr int kNumLines = 200;
  const LevelScope scope(LogLevel::kInfo);
  testing::internal::CaptureStderr();
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kNumThreads; ++thread) {
    threads.emplace_back([thread] {
      for (int line = 0; line < kNumLines; ++line)
        log_info("{}", std::string(50, static_cast<char>('a' + thread)));
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::istringstream lines(testing::internal::GetCapturedStderr());
  int num_lines = 0;
  for (std::string line; std::getline(lines, line); ++num_lines) {
    const std::string text = line.substr(line.size() - 50);
    EXPECT_EQ(line, "flexmoe info: " + std::string(50, text[0]));
  }
  EXPECT_EQ(num_lines, kNumThreads * kNumLines);
}

void log_all_and_exit(const char* level) {
  ::setenv("FLEX_LOG", level, 1);
  log_trace("t");
  log_info("i");
  log_warning("w");
  std::exit(0);
}

// The variable is read once per process, so each value needs a process of its own.
TEST(LogDeathTest, LevelComesFromTheEnvironment) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(log_all_and_exit("trace"), testing::ExitedWithCode(0),
              "flexmoe trace: t\nflexmoe info: i\nflexmoe warning: w\n");
  EXPECT_EXIT(log_all_and_exit("error"), testing::ExitedWithCode(0),
              testing::Not(testing::HasSubstr("flexmoe")));
  EXPECT_EXIT(log_all_and_exit("loud"), testing::ExitedWithCode(0),
              "flexmoe warning: FLEX_LOG is 'loud'; it is trace, debug, info, warn, error or off\n"
              "flexmoe warning: w\n");
}

}  // namespace
}  // namespace flex
