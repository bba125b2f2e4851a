#pragma once

#include <functional>

namespace flex::cli {

/// While it lives, Ctrl-C and SIGTERM ask the work to come to an end instead of killing it; the second time
/// they kill.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  /// From any thread.
  [[nodiscard]] static bool requested();
};

/// The exit code of a command that was asked to end early: that of a program which SIGINT killed.
inline constexpr int kInterrupted = 130;

}  // namespace flex::cli
