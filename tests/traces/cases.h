#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/philox.h"
#include "tests/traces/read_property.h"
#include "traces/trace_output.h"
#include "traces/trace_reader.h"

namespace flex::testing {

/// Appends to a text, which outlives it.
class TextSink final : public ByteSink {
 public:
  explicit TextSink(std::string& text) : text_(text) {}
  void write(std::string_view bytes) override { text_ += bytes; }
  void flush() override {}
  void close() override {}

 private:
  std::string& text_;
};

/// 4 ranks, 2 on a node; two layers of 8 experts, of which the second is dropless.
inline TraceHeader small_header() {
  TraceHeader header{.model = "a model",
                     .hardware = "some machines",
                     .world = 4,
                     .ranks_per_node = 2,
                     .layers = {{.workload = {.world = 4,
                                              .num_experts = 8,
                                              .num_tokens = 16,
                                              .top_k = 2,
                                              .model_dim = 64,
                                              .hidden_dim = 128,
                                              .dtype = DType::kBF16},
                                 .capacity_factor = 1.25}},
                     .origins = {{.source = TraceSource::kRecorded}}};
  header.layers.push_back(header.layers.front());
  header.layers.back().capacity_factor = 0;
  header.layers.back().workload.dropless = true;
  return header;
}

/// Rank 0: 3 tokens, all at experts 0 and 2; rank 2: 2 tokens, one each at experts 1, 5, 6, 7.
inline SparseCounts small_counts() {
  SparseCounts counts;
  counts.begin_row(0);
  counts.add(0, 3);
  counts.add(2, 3);
  counts.begin_row(2);
  for (const std::int32_t expert : {1, 5, 6, 7}) counts.add(expert, 1);
  return counts;
}

inline TraceRecord small_forward(std::int64_t step = 0, std::int32_t layer = 0) {
  return {.step = step,
          .layer = layer,
          .plan = Plan{.parallel_degree = 1, .pipeline_degree = 2},
          .duration_ns = 81'250,
          .counts = small_counts()};
}

inline TraceRecord small_backward(std::int64_t step = 0, std::int32_t layer = 0) {
  return {
      .step = step, .layer = layer, .pass = Pass::kBackward, .plan = kDefaultPlan, .duration_ns = 160'000};
}

/// A whole file.
inline std::string trace_text(const TraceHeader& header, const std::vector<TraceRecord>& records,
                              std::int64_t num_dropped = 0) {
  std::string text;
  TraceOutput output(std::make_unique<TextSink>(text), header);
  for (const TraceRecord& record : records) output.add(record);
  output.close(num_dropped);
  return text;
}

inline std::string gzip_text(const std::string& text) {
  std::string packed;
  const auto sink = gzip_sink(std::make_unique<TextSink>(packed));
  sink->write(text);
  sink->close();
  return packed;
}

/// Two steps of both layers, forward and backward.
inline std::vector<TraceRecord> small_records() {
  std::vector<TraceRecord> records;
  for (std::int64_t step = 0; step < 2; ++step) {
    for (const std::int32_t layer : {0, 1}) records.push_back(small_forward(step, layer));
    for (const std::int32_t layer : {1, 0}) records.push_back(small_backward(step, layer));
  }
  return records;
}

/// The tokens of one rank, each at top_k experts that differ.
inline void add_random_row(std::int32_t source, std::int64_t num_tokens, std::int64_t num_experts,
                           std::int64_t top_k, PhiloxStream& random, SparseCounts& counts) {
  std::vector<std::int64_t> choices(static_cast<std::size_t>(num_experts));
  std::vector<std::int64_t> taken(static_cast<std::size_t>(num_experts), -1);  // by which token last
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    for (std::int64_t j = 0; j < top_k;) {
      const auto expert = static_cast<std::size_t>(random.below(num_experts));
      if (std::exchange(taken[expert], token) == token) continue;
      ++choices[expert];
      ++j;
    }
  }
  if (num_tokens == 0) return;
  counts.begin_row(source);
  for (std::size_t e = 0; e < choices.size(); ++e) {
    if (choices[e] > 0) counts.add(static_cast<std::int32_t>(e), static_cast<std::int32_t>(choices[e]));
  }
}

inline SparseCounts random_counts(const Workload& w, PhiloxStream& random) {
  SparseCounts counts;
  for (std::int32_t source = 0; source < w.world; ++source) {
    add_random_row(source, random.below(w.num_tokens + 1), w.num_experts, w.top_k, random, counts);
  }
  return counts;
}

}  // namespace flex::testing
