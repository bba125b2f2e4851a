#include "cli/interrupt.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <ctime>
#include <string_view>

namespace flex::cli {
namespace {

using Handler = void (*)(int);

std::atomic<bool> was_requested = false;
std::atomic<std::int64_t> requested_at_ms = 0;
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<std::int64_t>::is_always_lock_free,
              "a signal handler writes them");
Handler without_interrupt = SIG_DFL;

std::int64_t monotonic_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

extern "C" void request_end(int signal) {
  // A launcher passes on what the terminal has sent to this process already: that is one request.
  constexpr std::int64_t kSameRequestMs = 300;
  const std::int64_t now_ms = monotonic_ms();
  if (!was_requested) {
    was_requested = true;
    requested_at_ms = now_ms;
  } else if (now_ms - requested_at_ms > kSameRequestMs) {
    static_cast<void>(std::signal(signal, SIG_DFL));
    static_cast<void>(std::raise(signal));
  }
}

// Only what a signal handler may call.
extern "C" void end_at_once(int /*signal*/) {
  constexpr std::string_view kLine = "flexmoe: interrupted\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kLine.data(), kLine.size());
  _exit(kInterrupted);
}

void handle_with(Handler handler) {
  static_cast<void>(std::signal(SIGINT, handler));
  static_cast<void>(std::signal(SIGTERM, handler));
}

}  // namespace

void end_at_once_when_interrupted() {
  without_interrupt = end_at_once;
  handle_with(without_interrupt);
}

Interrupt::Interrupt() {
  was_requested = false;
  handle_with(request_end);
}

Interrupt::~Interrupt() { handle_with(without_interrupt); }

bool Interrupt::requested() { return was_requested; }

void Interrupt::throw_if_requested() {
  if (was_requested) throw Interrupted();
}

}  // namespace flex::cli
