#include "traces/trace_reader.h"

#include <fmt/format.h>

#include "tests/performance/measured_work.h"
#include "traces/byte_sink.h"
#include "traces/byte_source.h"
#include "traces/generate.h"
#include "traces/trace_output.h"

/// A trace of 200 records of 64 ranks and 64 experts, read from memory.
namespace {

class StringSink final : public flex::ByteSink {
 public:
  explicit StringSink(std::string& text) : text_(text) {}
  void write(std::string_view bytes) override { text_ += bytes; }
  void flush() override {}
  void close() override {}

 private:
  std::string& text_;
};

std::string make_trace() {
  flex::TraceLayer layer{.workload = {.world = 64,
                                      .num_experts = 64,
                                      .num_tokens = 256,
                                      .top_k = 2,
                                      .model_dim = 256,
                                      .hidden_dim = 512,
                                      .dropless = true},
                         .capacity_factor = 0};
  flex::GenerateOptions options{
      .imbalance = *flex::parse_imbalance_workload("W6"),
      .seed = 1,
      .num_steps = 100,
      .header = {.model = "generated", .world = 64, .ranks_per_node = 8, .layers = {layer}}};
  options.header = flex::generated_header(options);
  std::string text;
  flex::TraceOutput output(std::make_unique<StringSink>(text), options.header);
  flex::generate(options, [&](const flex::TraceRecord& record) { output.add(record); });
  output.close();
  return text;
}

const std::string& trace() {
  static const std::string made = make_trace();
  return made;
}

}  // namespace

void prepare_work() { (void)trace(); }

std::int64_t measured_work() {
  flex::TraceReader reader(flex::memory_source(trace()), "trace");
  flex::TraceRecord record;
  while (reader.next(record)) {
  }
  return reader.num_records();
}
