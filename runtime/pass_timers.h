#pragma once

#include "kernels/stream.h"
#include "profiler/stream_timer.h"
#include "tuner/plan_policy.h"

namespace flex {

/// What the last forward pass of a layer, and the backward pass after it, took on this rank.
class PassTimers {
 public:
  explicit PassTimers(Device device) : forward_(device), backward_(device) {}

  /// Forgets the passes before.
  void start_forward(Stream& stream);
  void stop_forward(Stream& stream);
  void start_backward(Stream& stream);
  void stop_backward(Stream& stream);

  /// Zero for a pass that did not run. Waits for those that did. @throws what their stream failed with.
  [[nodiscard]] PassDurations durations_blocking() const;

 private:
  StreamTimer forward_, backward_;
  bool ran_forward_ = false;
  bool ran_backward_ = false;
};

}  // namespace flex
