#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "traces/byte_sink.h"
#include "traces/routing_trace.h"
#include "traces/trace_check.h"

namespace flex {

/// Writes a trace record by record, in the caller's thread: for tools. A run uses TraceWriter.
class TraceOutput {
 public:
  /// Writes and flushes the header. @throws InputError for one that cannot be; FileError.
  TraceOutput(std::unique_ptr<ByteSink> sink, TraceHeader header);

  /// @throws InputError if a reader would refuse the record, which is then not written; FileError.
  void add(const TraceRecord& record);
  /// Whole lines reach the sink, and the sink is flushed. @throws FileError
  void flush();
  /// Writes the trailer and closes the sink. Once. @throws FileError
  TraceTrailer close(std::int64_t num_dropped = 0);

  [[nodiscard]] const TraceHeader& header() const { return *header_; }
  [[nodiscard]] const TraceCheck& check() const { return check_; }
  [[nodiscard]] std::int64_t num_records() const { return num_records_; }
  /// Bytes of lines that have not reached the sink.
  [[nodiscard]] std::size_t pending_bytes() const { return text_.size(); }
  /// Lines reach the sink without a flush. @throws FileError
  void write_pending();

 private:
  std::unique_ptr<ByteSink> sink_;
  std::unique_ptr<const TraceHeader> header_;  // where check_ can point to it
  TraceCheck check_;
  std::string text_;
  std::int64_t num_records_ = 0;
};

}  // namespace flex
