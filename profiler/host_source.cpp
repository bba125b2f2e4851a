#include "profiler/host_source.h"

namespace flex {

void HostSource::start_blocking(Stream& /*stream*/) { num_marks_ = 0; }

std::int64_t& HostSource::next() {
  if (num_marks_ == times_->size()) times_->push_back(0);
  std::int64_t& time_ns = (*times_)[num_marks_++];
  time_ns = kNotReached;
  return time_ns;
}

void HostSource::mark(Stream& stream) {
  stream.enqueue([times = times_, time_ns = &next()] { *time_ns = steady_now_ns(); });
}

void HostSource::mark_now() { next() = steady_now_ns(); }

std::span<const std::int64_t> HostSource::times_ns() {
  resolved_.assign(times_->begin(), times_->begin() + static_cast<std::ptrdiff_t>(num_marks_));
  return resolved_;
}

}  // namespace flex
