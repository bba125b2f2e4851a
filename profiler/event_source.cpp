#include "profiler/event_source.h"

#include <cmath>

#include "base/require.h"
#include "kernels/cuda_check.h"

namespace flex {
namespace {

cudaEvent_t as_event(void* event) { return static_cast<cudaEvent_t>(event); }

void* make_event(Device device) {
  FLEX_CUDA_CHECK(cudaSetDevice(device.index));
  cudaEvent_t event = nullptr;
  FLEX_CUDA_CHECK(cudaEventCreate(&event));
  return event;
}

}  // namespace

EventSource::EventSource(Device device) : device_(device), reference_(make_event(device)) {}

EventSource::~EventSource() {
  static_cast<void>(cudaEventDestroy(as_event(reference_)));
  for (void* event : events_) static_cast<void>(cudaEventDestroy(as_event(event)));
}

void EventSource::start_blocking(Stream& stream) {
  require(stream.device() == device_, "events of {} cannot be recorded on a stream of {}", to_string(device_),
          to_string(stream.device()));
  marks_.clear();
  num_events_ = 0;
  FLEX_CUDA_CHECK(cudaEventRecord(as_event(reference_), static_cast<cudaStream_t>(stream.native())));
  FLEX_CUDA_CHECK(cudaEventSynchronize(as_event(reference_)));
  reference_ns_ = steady_now_ns();
}

void EventSource::mark(Stream& stream) {
  if (num_events_ == events_.size()) events_.push_back(make_event(device_));
  FLEX_CUDA_CHECK(
      cudaEventRecord(as_event(events_[num_events_]), static_cast<cudaStream_t>(stream.native())));
  marks_.push_back({.event = num_events_++});
}

void EventSource::mark_now() { marks_.push_back({.host_ns = steady_now_ns()}); }

std::span<const std::int64_t> EventSource::times_ns() {
  resolved_.clear();
  for (const Mark& mark : marks_) {
    if (mark.host_ns >= 0) {
      resolved_.push_back(mark.host_ns);
      continue;
    }
    float elapsed_ms = 0;
    FLEX_CUDA_CHECK(cudaEventElapsedTime(&elapsed_ms, as_event(reference_), as_event(events_[mark.event])));
    resolved_.push_back(reference_ns_ + std::llround(static_cast<double>(elapsed_ms) * 1e6));
  }
  return resolved_;
}

}  // namespace flex
