#pragma once

#include <stdexcept>

namespace flex::cli {

/// The exit code of a command that was asked to end early: that of a program which SIGINT killed.
inline constexpr int kInterrupted = 130;

/// Ends a command that was asked to end early and has nothing to keep; main() says so and returns
/// kInterrupted.
class Interrupted : public std::runtime_error {
 public:
  Interrupted() : std::runtime_error("interrupted") {}
};

/// From here on Ctrl-C and SIGTERM end the process at once, with one line on stderr and kInterrupted, unless
/// an Interrupt lives. Once, by main().
void end_at_once_when_interrupted();

/// While it lives, Ctrl-C and SIGTERM ask the work to come to an end instead of ending the process; asked
/// again a moment later, they kill it. For work that leaves something behind: results to keep, temporary
/// files to remove, threads to join. It must look at the request often enough for somebody who waits.
class Interrupt {
 public:
  Interrupt();
  /// Again at once, if end_at_once_when_interrupted() was called.
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  /// From any thread; false where no Interrupt has lived.
  [[nodiscard]] static bool requested();
  /// From any thread. @throws Interrupted
  static void throw_if_requested();
};

}  // namespace flex::cli
