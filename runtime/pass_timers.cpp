#include "runtime/pass_timers.h"

#include <cmath>

namespace flex {
namespace {

std::int64_t duration_ns(const StreamTimer& timer) { return std::llround(timer.elapsed_us_blocking() * 1e3); }

}  // namespace

void PassTimers::start_forward(Stream& stream) {
  ran_forward_ = false;
  ran_backward_ = false;
  forward_.start(stream);
}

void PassTimers::stop_forward(Stream& stream) {
  forward_.stop(stream);
  ran_forward_ = true;
}

void PassTimers::start_backward(Stream& stream) {
  ran_backward_ = false;
  backward_.start(stream);
}

void PassTimers::stop_backward(Stream& stream) {
  backward_.stop(stream);
  ran_backward_ = true;
}

PassDurations PassTimers::durations_blocking() const {
  return {.forward_ns = ran_forward_ ? duration_ns(forward_) : 0,
          .backward_ns = ran_backward_ ? duration_ns(backward_) : 0};
}

}  // namespace flex
