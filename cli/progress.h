#pragma once

#include <chrono>
#include <string>

namespace flex::cli {

/// One line on stderr with a bar, a count and the time left, from two seconds on and only on a terminal;
/// wiped at the end.
class Progress {
 public:
  explicit Progress(std::string what);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` of `total` steps are done; `note` stands behind the time left. Cheap: it draws at most ten times
  /// a second.
  void update(int done, int total, const std::string& note = {});

 private:
  std::string what_;
  bool on_terminal_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace flex::cli
