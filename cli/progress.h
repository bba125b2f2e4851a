#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace flex::cli {

/// What update() does when an Interrupt was asked for: ends the work, or nothing, because the work itself
/// looks and keeps what it has.
enum class WhenInterrupted { kThrow, kGoOn };

/// One line on stderr with a bar, a count and the time left, from two seconds on and only on a terminal;
/// wiped at the end.
class Progress {
 public:
  /// `done_before`: steps that were done when the clock began.
  explicit Progress(std::string what, WhenInterrupted when_interrupted = WhenInterrupted::kThrow,
                    std::int64_t done_before = 0);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` of `total` steps are done; `note` stands behind the time left. Cheap: it draws at most ten times
  /// a second. @throws Interrupted
  void update(std::int64_t done, std::int64_t total, const std::string& note = {});

 private:
  std::string what_;
  WhenInterrupted when_interrupted_;
  std::int64_t done_before_;
  bool on_terminal_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace flex::cli
