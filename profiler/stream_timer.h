#pragma once

#include <memory>

#include "kernels/stream.h"

namespace flex {

/// Time between two points of a stream: by events on CUDA, by the worker's clock on the CPU. Reusable.
class StreamTimer {
 public:
  explicit StreamTimer(Device device);
  ~StreamTimer();
  StreamTimer(StreamTimer&&) noexcept;
  StreamTimer& operator=(StreamTimer&&) noexcept;
  StreamTimer(const StreamTimer&) = delete;
  StreamTimer& operator=(const StreamTimer&) = delete;

  void start(Stream& stream);
  void stop(Stream& stream);
  /// Waits for the stop point; microseconds since the start point.
  [[nodiscard]] double elapsed_us_blocking() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;  // shared with what is queued, which may outlive this object
};

}  // namespace flex
