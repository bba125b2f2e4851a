#include "profiler/mark_ranges.h"

namespace flex {

MarkRanges::MarkRanges(Device device) : is_cpu_(device.is_cpu()), marks_(make_mark_source(device)) {}

void MarkRanges::start_blocking(Stream& stream) { marks_->start_blocking(stream); }

void MarkRanges::begin(const WorkId& /*id*/, Stream* stream) { mark(stream); }

void MarkRanges::end(Stream* stream) { mark(stream); }

void MarkRanges::mark(Stream* stream) {
  if (stream == nullptr) {
    marks_->mark_now();
  } else {
    marks_->mark(*stream);
  }
}

std::span<const TimeRange> MarkRanges::ranges_blocking() {
  const std::span<const std::int64_t> times_ns = marks_->times_ns();
  ranges_.clear();
  for (std::size_t i = 0; i + 1 < times_ns.size(); i += 2) {
    ranges_.push_back({.begin_ns = times_ns[i], .end_ns = times_ns[i + 1]});
  }
  return ranges_;
}

std::string_view MarkRanges::origin(bool by_host) const {
  return is_cpu_ || by_host ? "host_clock" : "cuda_events";
}

}  // namespace flex
