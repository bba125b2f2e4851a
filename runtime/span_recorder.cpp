#include "runtime/span_recorder.h"

#include <string>

namespace flex {

SpanRecorder::SpanRecorder(Device device, int rank)
    : rank_(rank), device_(device), marks_(make_mark_source(device)) {}

void SpanRecorder::start_blocking(Stream& stream) {
  marks_->start_blocking(stream);
  issued_.clear();
  pass_ = -1;
}

void SpanRecorder::mark(StreamKind kind, Stream& stream) {
  if (kind == StreamKind::kHost) {
    marks_->mark_now();
  } else {
    marks_->mark(stream);
  }
}

void SpanRecorder::before(const Schedule& schedule, std::size_t index, Stream& stream) {
  if (index == 0) ++pass_;
  const Operation& operation = schedule.operations[index];
  issued_.push_back({.operation = operation, .pass = pass_, .index = static_cast<std::int32_t>(index)});
  mark(operation.stream, stream);
}

void SpanRecorder::after(const Schedule& schedule, std::size_t index, Stream& stream) {
  mark(schedule.operations[index].stream, stream);
}

std::span<const RecordedOperation> SpanRecorder::recorded() {
  const std::span<const std::int64_t> times_ns = marks_->times_ns();
  recorded_.clear();
  for (std::size_t i = 0; 2 * i + 1 < times_ns.size(); ++i) {
    RecordedOperation operation = issued_[i];
    operation.begin_ns = times_ns[2 * i];
    operation.end_ns = times_ns[2 * i + 1];
    if (operation.end_ns != MarkSource::kNotReached) recorded_.push_back(operation);
  }
  return recorded_;
}

std::vector<Span> SpanRecorder::spans(std::int64_t origin_ns, std::string_view process_group) {
  std::vector<Span> spans;
  for (const RecordedOperation& recorded : this->recorded()) {
    const Operation& operation = recorded.operation;
    const bool by_host = device_.is_cpu() || operation.stream == StreamKind::kHost;
    spans.push_back({.name = label(operation),
                     .process_group = std::string(process_group),
                     .rank = rank_,
                     .stream = std::string(name(operation.stream)),
                     .begin_ns = recorded.begin_ns - origin_ns,
                     .end_ns = recorded.end_ns - origin_ns,
                     .pass = recorded.pass,
                     .operation = recorded.index,
                     .chunk = operation.num_chunks > 1 ? operation.chunk : -1,
                     .bytes = operation.size.bytes,
                     .flops = operation.size.flops,
                     .origin = by_host ? "host_clock" : "cuda_events"});
  }
  return spans;
}

}  // namespace flex
