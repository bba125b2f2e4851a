#pragma once

#include <vector>

#include "profiler/mark_source.h"

namespace flex {

/// Marks by CUDA events, placed on the host's clock by one reference event: the host waits for it once and
/// reads its clock then, so that times between events are exact to the events' half microsecond and the whole
/// timeline is late by what that wait takes to return.
class EventSource final : public MarkSource {
 public:
  explicit EventSource(Device device);
  ~EventSource() override;
  EventSource(const EventSource&) = delete;
  EventSource& operator=(const EventSource&) = delete;

  void start_blocking(Stream& stream) override;
  void mark(Stream& stream) override;
  void mark_now() override;
  [[nodiscard]] std::span<const std::int64_t> times_ns() override;

 private:
  struct Mark {
    std::size_t event = 0;      ///< index into events_, unless the host marked it
    std::int64_t host_ns = -1;  ///< -1: an event's
  };

  Device device_;
  void* reference_ = nullptr;  // cudaEvent_t
  std::int64_t reference_ns_ = 0;
  std::vector<void*> events_;  // cudaEvent_t
  std::size_t num_events_ = 0;
  std::vector<Mark> marks_;
  std::vector<std::int64_t> resolved_;
};

}  // namespace flex
