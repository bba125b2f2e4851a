#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace flex::cli {

/// One line on stderr with a bar, a count and the time left, from two seconds on and only on a terminal;
/// wiped at the end.
class Progress {
 public:
  /// `done_before`: steps that were done when the clock began.
  explicit Progress(std::string what, std::int64_t done_before = 0);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` of `total` steps are done; `note` stands behind the time left. Cheap: it draws at most ten times
  /// a second.
  void update(std::int64_t done, std::int64_t total, const std::string& note = {});

 private:
  std::string what_;
  std::int64_t done_before_;
  bool on_terminal_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace flex::cli
