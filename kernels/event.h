#pragma once

#include <memory>

#include "kernels/device.h"

namespace flex {

class Stream;

/// A point in a stream's work that other streams (or the host) can wait for. Reusable: each record() moves
/// it, on the same stream or on another, and who waits already goes on waiting for the earlier record. It may
/// be destroyed while work that records it or waits for it is still queued.
class Event {
 public:
  explicit Event(Device device);
  ~Event();
  Event(Event&&) noexcept;
  Event& operator=(Event&&) noexcept;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  /// Blocks the host until the last recorded point is reached. On the CPU, rethrows what the recording stream
  /// failed with; an event that was never recorded is done.
  void wait_blocking() const;
  /// True once the last recorded point is reached.
  [[nodiscard]] bool done() const;
  /// The cudaEvent_t, or null on the CPU.
  [[nodiscard]] void* native() const;

 private:
  friend class Stream;
  struct Impl;
  std::shared_ptr<Impl> impl_;  // shared with what is queued on CPU streams
};

}  // namespace flex
