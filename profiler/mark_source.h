#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "kernels/stream.h"

namespace flex {

/// Nanoseconds of the host's steady clock, which all threads and processes of one host share.
[[nodiscard]] std::int64_t steady_now_ns();

/// Marks points in the work of one device's streams and says when the streams came to them, all on the host's
/// steady clock. For one thread. Allocates nothing once it has held as many marks.
///
///     source->start_blocking(stream);
///     source->mark(stream);   // queues
///     ...
///     stream.synchronize_blocking();
///     for (const std::int64_t time_ns : source->times_ns()) ...
class MarkSource {
 public:
  static constexpr std::int64_t kNotReached = -1;

  virtual ~MarkSource() = default;

  /// Forgets all marks, and sets the clock by `stream`, whose queued work it may wait for.
  virtual void start_blocking(Stream& stream) = 0;
  /// Marks the end of what `stream` holds. Does not block.
  virtual void mark(Stream& stream) = 0;
  /// Marks this moment on the host.
  virtual void mark_now() = 0;
  /// One time for each mark since start_blocking(), in the order of the calls; kNotReached where a stream
  /// failed before it. The streams must have been synchronized. Valid until the next call.
  [[nodiscard]] virtual std::span<const std::int64_t> times_ns() = 0;
};

/// Reads the host's clock in the streams of the CPU; uses events in those of a CUDA device.
[[nodiscard]] std::unique_ptr<MarkSource> make_mark_source(Device device);

}  // namespace flex
