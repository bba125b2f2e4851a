#include "traces/trace_output.h"

#include "traces/trace_text.h"

namespace flex {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 16;

}  // namespace

TraceOutput::TraceOutput(std::unique_ptr<ByteSink> sink, TraceHeader header)
    : sink_(std::move(sink)),
      header_(std::make_unique<const TraceHeader>(std::move(header))),
      check_(*header_) {
  validate(*header_);
  append_header_line(*header_, text_);
  flush();
}

void TraceOutput::add(const TraceRecord& record) {
  check_.add(record);
  append_record_line(record, text_);
  ++num_records_;
  if (text_.size() >= kBufferBytes) write_pending();
}

void TraceOutput::write_pending() {
  if (text_.empty()) return;
  sink_->write(text_);
  text_.clear();
}

void TraceOutput::flush() {
  write_pending();
  sink_->flush();
}

TraceTrailer TraceOutput::close(std::int64_t num_dropped) {
  const TraceTrailer trailer{.num_records = num_records_, .num_dropped = num_dropped};
  append_trailer_line(trailer, text_);
  write_pending();
  sink_->close();
  return trailer;
}

}  // namespace flex
