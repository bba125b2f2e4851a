#include "cli/interrupt.h"

#include <atomic>
#include <csignal>

namespace flex::cli {
namespace {

std::atomic<bool> was_requested = false;
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler writes it");

extern "C" void request_end(int signal) {
  was_requested = true;
  static_cast<void>(std::signal(signal, SIG_DFL));
}

}  // namespace

Interrupt::Interrupt() {
  was_requested = false;
  static_cast<void>(std::signal(SIGINT, request_end));
  static_cast<void>(std::signal(SIGTERM, request_end));
}

Interrupt::~Interrupt() {
  static_cast<void>(std::signal(SIGINT, SIG_DFL));
  static_cast<void>(std::signal(SIGTERM, SIG_DFL));
}

bool Interrupt::requested() { return was_requested; }

}  // namespace flex::cli
