#include "runtime/span_recorder.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "runtime/operation_range_name.h"

namespace flex {
namespace {

void set_times(std::span<const TimeRange> ranges, std::vector<RecordedOperation>& operations) {
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    operations[i].begin_ns = ranges[i].begin_ns;
    operations[i].end_ns = ranges[i].end_ns;
  }
}

Stream* stream_of(const Operation& operation, Stream& stream) {
  return operation.stream == StreamKind::kHost ? nullptr : &stream;
}

}  // namespace

SpanRecorder::SpanRecorder(Device device, int rank)
    : SpanRecorder(make_range_source(device, RangeClock::kMarks, rank, 0), rank) {}

SpanRecorder::SpanRecorder(std::unique_ptr<RangeSource> source, int rank)
    : rank_(rank), source_(std::move(source)) {}

void SpanRecorder::set_place(std::int64_t iteration, std::int32_t layer) {
  iteration_ = iteration;
  layer_ = layer;
  pass_ = -1;
}

void SpanRecorder::start_blocking(Stream& stream) {
  source_->start_blocking(stream);
  issued_.clear();
  pass_ = -1;
  is_started_ = true;
  is_stopped_ = false;
}

void SpanRecorder::before(const Schedule& schedule, std::size_t index, Stream& stream) {
  if (index == 0) ++pass_;
  const Operation& operation = schedule.operations[index];
  if (!is_stopped_) {
    issued_.push_back({.operation = operation,
                       .pass = pass_,
                       .index = static_cast<std::int32_t>(index),
                       .iteration = iteration_,
                       .layer = layer_,
                       .begin_ns = MarkSource::kNotReached,
                       .end_ns = MarkSource::kNotReached});
  }
  nvtx_.emplace(operation_range_name(operation, schedule.plan, layer_));
  source_->begin({.iteration = std::max<std::int64_t>(iteration_, 0),
                  .layer = layer_,
                  .pass = pass_,
                  .operation = static_cast<std::int32_t>(index),
                  .chunk = operation.num_chunks > 1 ? operation.chunk : -1},
                 stream_of(operation, stream));
}

void SpanRecorder::after(const Schedule& schedule, std::size_t index, Stream& stream) {
  source_->end(stream_of(schedule.operations[index], stream));
  nvtx_.reset();
}

void SpanRecorder::stop(Stream& stream) {
  if (!std::exchange(is_started_, false)) return;
  is_stopped_ = true;
  source_->stop(stream);
  stopped_.push_back(std::exchange(issued_, {}));
}

std::optional<SpanRecording> SpanRecorder::take_stopped() {
  std::optional<RangeRecording> ranges = source_->take_stopped();
  if (!ranges) return std::nullopt;
  return joined(std::move(*ranges));
}

std::optional<SpanRecording> SpanRecorder::take_stopped_blocking() {
  std::optional<RangeRecording> ranges = source_->take_stopped_blocking();
  if (!ranges) return std::nullopt;
  return joined(std::move(*ranges));
}

SpanRecording SpanRecorder::joined(RangeRecording ranges) {
  SpanRecording recording{.operations = std::move(stopped_.front()), .details = std::move(ranges.details)};
  stopped_.pop_front();
  set_times(ranges.ranges, recording.operations);
  return recording;
}

std::span<const RecordedOperation> SpanRecorder::issued() {
  is_started_ = false;
  set_times(source_->ranges_blocking(), issued_);
  return issued_;
}

std::span<const RecordedOperation> SpanRecorder::recorded() {
  recorded_.clear();
  std::ranges::copy_if(issued(), std::back_inserter(recorded_), [](const RecordedOperation& operation) {
    return operation.end_ns != MarkSource::kNotReached;
  });
  return recorded_;
}

std::vector<Span> SpanRecorder::spans(std::int64_t origin_ns, std::string_view process_group) {
  std::vector<Span> spans;
  for (const RecordedOperation& recorded : this->recorded()) {
    const Operation& operation = recorded.operation;
    spans.push_back({.name = label(operation),
                     .process_group = std::string(process_group),
                     .rank = rank_,
                     .stream = std::string(name(operation.stream)),
                     .begin_ns = recorded.begin_ns - origin_ns,
                     .end_ns = recorded.end_ns - origin_ns,
                     .iteration = recorded.iteration,
                     .layer = recorded.layer,
                     .pass = recorded.pass,
                     .operation = recorded.index,
                     .chunk = operation.num_chunks > 1 ? operation.chunk : -1,
                     .bytes = operation.size.bytes,
                     .flops = operation.size.flops,
                     .origin = std::string(source_->origin(operation.stream == StreamKind::kHost))});
  }
  return spans;
}

std::vector<Span> SpanRecorder::details(std::int64_t origin_ns, std::string_view process_group) const {
  std::vector<Span> spans = source_->details();
  for (Span& span : spans) {
    span.process_group = process_group;
    span.begin_ns -= origin_ns;
    span.end_ns -= origin_ns;
  }
  return spans;
}

}  // namespace flex
