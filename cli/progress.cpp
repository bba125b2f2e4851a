#include "cli/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "cli/interrupt.h"
#include "cli/terminal.h"

namespace flex::cli {
namespace {

using std::chrono::duration;
using std::chrono::steady_clock;

constexpr duration<double> kQuiet{2.0};  // work that is over sooner needs no bar
constexpr duration<double> kBetween{0.1};
constexpr int kWidth = 30;

std::string time_left(double seconds) {
  const auto whole = std::lround(seconds);
  return whole < 60 ? fmt::format("{} s", whole) : fmt::format("{}:{:02}", whole / 60, whole % 60);
}

}  // namespace

Progress::Progress(std::string what, WhenInterrupted when_interrupted, std::int64_t done_before)
    : what_(std::move(what)),
      when_interrupted_(when_interrupted),
      done_before_(done_before),
      on_terminal_(is_terminal(stderr)),
      start_(steady_clock::now()),
      last_(start_) {}

Progress::~Progress() {
  if (drawn_) static_cast<void>(std::fputs("\r\033[K", stderr));
}

void Progress::update(std::int64_t done, std::int64_t total, const std::string& note) {
  if (when_interrupted_ == WhenInterrupted::kThrow) Interrupt::throw_if_requested();
  if (!on_terminal_ || total <= 0) return;
  const auto now = steady_clock::now();
  const duration<double> elapsed = now - start_;
  if (elapsed < kQuiet || now - last_ < kBetween) return;
  last_ = now;
  drawn_ = true;
  const double share = std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0);
  const auto mine = static_cast<double>(done - done_before_);
  const int filled = static_cast<int>(share * kWidth);
  const std::string left =
      mine > 0 ? time_left(elapsed.count() * static_cast<double>(total - done) / mine) : "?";
  fmt::print(stderr, "\r\033[K{} [{:=<{}}{:{}}] {}/{}, {} left{}{}", what_, "", filled, "", kWidth - filled,
             done, total, left, note.empty() ? "" : "   ", note);
  static_cast<void>(std::fflush(stderr));
}

}  // namespace flex::cli
