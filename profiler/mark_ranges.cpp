#include "profiler/mark_ranges.h"

#include <utility>

namespace flex {
namespace {

void read_ranges(MarkSource& marks, std::vector<TimeRange>& ranges) {
  const std::span<const std::int64_t> times_ns = marks.times_ns();
  ranges.clear();
  for (std::size_t i = 0; i + 1 < times_ns.size(); i += 2) {
    ranges.push_back({.begin_ns = times_ns[i], .end_ns = times_ns[i + 1]});
  }
}

}  // namespace

MarkRanges::MarkRanges(Device device) : device_(device), marks_(make_mark_source(device)) {}

void MarkRanges::start_blocking(Stream& stream) {
  if (marks_ == nullptr) {  // a recording that was stopped has them
    if (spare_.empty()) {
      marks_ = make_mark_source(device_);
    } else {
      marks_ = std::move(spare_.back());
      spare_.pop_back();
    }
  }
  marks_->start_blocking(stream);
  is_recording_ = true;
}

void MarkRanges::begin(const WorkId& /*id*/, Stream* stream) { mark(stream); }

void MarkRanges::end(Stream* stream) { mark(stream); }

void MarkRanges::mark(Stream* stream) {
  if (marks_ == nullptr) return;  // stopped, and not started again
  if (stream == nullptr) {
    marks_->mark_now();
  } else {
    marks_->mark(*stream);
  }
}

std::span<const TimeRange> MarkRanges::ranges_blocking() {
  is_recording_ = false;
  if (marks_ == nullptr) {
    ranges_.clear();
  } else {
    read_ranges(*marks_, ranges_);
  }
  return ranges_;
}

void MarkRanges::stop(Stream& stream) {
  if (!std::exchange(is_recording_, false)) return;
  stopped_.push_back({.marks = std::move(marks_), .done = Event(device_)});
  stream.record(stopped_.back().done);
}

std::optional<RangeRecording> MarkRanges::take_stopped() {
  if (stopped_.empty() || !stopped_.front().done.done()) return std::nullopt;
  return take_oldest();
}

std::optional<RangeRecording> MarkRanges::take_stopped_blocking() {
  if (stopped_.empty()) return std::nullopt;
  stopped_.front().done.wait_blocking();
  return take_oldest();
}

RangeRecording MarkRanges::take_oldest() {
  RangeRecording recording;
  read_ranges(*stopped_.front().marks, recording.ranges);
  spare_.push_back(std::move(stopped_.front().marks));
  stopped_.pop_front();
  return recording;
}

std::string_view MarkRanges::origin(bool by_host) const {
  return device_.is_cpu() || by_host ? "host_clock" : "cuda_events";
}

}  // namespace flex
