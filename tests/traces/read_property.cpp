#include "tests/traces/read_property.h"

#include <memory>
#include <stdexcept>

#include "traces/byte_sink.h"
#include "traces/trace_output.h"

namespace flex::testing {
namespace {

class StringSink final : public ByteSink {
 public:
  explicit StringSink(std::string& text) : text_(text) {}
  void write(std::string_view bytes) override { text_ += bytes; }
  void flush() override {}
  void close() override {}

 private:
  std::string& text_;
};

void require_promise(bool holds, const std::string& what) {
  if (!holds) throw std::logic_error(what);
}

TraceReader reader_of(const std::string& bytes, TraceDamage on_damage, std::size_t max_line_bytes) {
  std::unique_ptr<ByteSource> source = memory_source(bytes);
  if (bytes.starts_with("\x1f\x8b")) source = gzip_source(std::move(source));
  return {std::move(source), "trace", on_damage, max_line_bytes};
}

// What was read until an InputError came, and its text.
ReadResult read(const std::string& bytes, TraceDamage on_damage, std::size_t max_line_bytes) {
  ReadResult result;
  try {
    TraceReader reader = reader_of(bytes, on_damage, max_line_bytes);
    result.header = reader.header();
    TraceRecord record;
    try {
      while (reader.next(record)) result.records.push_back(record);
    } catch (const InputError&) {
      require_promise(on_damage == TraceDamage::kThrow, "kStop threw after the header");
      throw;
    }
    result.trailer = reader.trailer();
    result.error = reader.damage().value_or("");
  } catch (const InputError& error) {
    result.error = error.what();
  }
  return result;
}

void check_errors(const ReadResult& stopped, const ReadResult& thrown) {
  require_promise(stopped.error == thrown.error, "kStop and kThrow find other errors");
  require_promise(stopped.error.empty() == stopped.trailer.has_value(),
                  "whole exactly if there is a trailer");
  require_promise(stopped.error.empty() || stopped.error.starts_with("trace:"), "no file: " + stopped.error);
  require_promise(stopped.error.find('\n') == std::string::npos, "more than one line: " + stopped.error);
}

// Only a capacity that no memory holds is refused.
void check_load(const TraceHeader& header, const TraceRecord& record) {
  try {
    const LayerLoad load = load_of(header, record);
    require_promise(load.workload.num_tokens >= 0 && load.max_over_mean >= 1, "a load that cannot be");
  } catch (const InputError& error) {
    const std::string what = error.what();
    require_promise(what.find("capacity") != std::string::npos, "another refusal: " + what);
  }
}

// Records can be bound to a workload, written, and read as the same.
void check_round_trip(const ReadResult& result) {
  std::string text;
  TraceOutput output(std::make_unique<StringSink>(text), *result.header);
  for (const TraceRecord& record : result.records) {
    output.add(record);
    if (record.pass == Pass::kForward) check_load(*result.header, record);
  }
  output.close();
  const ReadResult again = read(text, TraceDamage::kThrow, kMaxLineBytes);
  require_promise(again.error.empty(), "what was written cannot be read: " + again.error);
  require_promise(again.header == result.header && again.records == result.records,
                  "a round trip changes it");
}

}  // namespace

ReadResult read_and_check(const std::string& bytes, std::size_t max_line_bytes) {
  ReadResult result = read(bytes, TraceDamage::kStop, max_line_bytes);
  check_errors(result, read(bytes, TraceDamage::kThrow, max_line_bytes));
  if (result.header) check_round_trip(result);
  return result;
}

}  // namespace flex::testing
