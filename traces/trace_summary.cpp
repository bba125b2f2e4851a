#include "traces/trace_summary.h"

#include <algorithm>

namespace flex {
namespace {

struct LayerValues {
  std::vector<double> needed_capacity;
  std::vector<double> max_over_mean;
  std::vector<double> forward_us;
  std::vector<double> backward_us;
};

Spread spread_of(std::vector<double>& values) {
  if (values.empty()) return {};
  std::ranges::sort(values);
  return {.min = values.front(), .median = values[(values.size() - 1) / 2], .max = values.back()};
}

void add(const TraceReader& reader, const TraceRecord& record, LayerSummary& summary, LayerValues& values) {
  constexpr double kUsPerNs = 1e-3;
  const bool is_forward = record.pass == Pass::kForward;
  PassesSummary& passes = is_forward ? summary.forward : summary.backward;
  ++passes.num_records;
  if (record.plan) ++passes.plans[to_string(*record.plan)];
  if (record.duration_ns) {
    ++passes.num_timed;
    (is_forward ? values.forward_us : values.backward_us)
        .push_back(static_cast<double>(*record.duration_ns) * kUsPerNs);
  }
  if (!is_forward) return;
  const TraceHeader& header = reader.header();
  const CountSummary counts =
      summarize(record.counts, header.layers[static_cast<std::size_t>(record.layer)].workload.num_experts);
  summary.num_tokens += counts.num_choices / top_k_of(header, record);
  values.needed_capacity.push_back(static_cast<double>(counts.needed_capacity));
  values.max_over_mean.push_back(counts.max_over_mean);
}

}  // namespace

TraceSummary summarize(TraceReader& reader) {
  TraceSummary summary{.layers = std::vector<LayerSummary>(reader.header().layers.size())};
  std::vector<LayerValues> values(summary.layers.size());
  TraceRecord record;
  while (reader.next(record)) {
    ++summary.num_records;
    if (!summary.first_step) summary.first_step = record.step;
    summary.last_step = record.step;
    const auto layer = static_cast<std::size_t>(record.layer);
    add(reader, record, summary.layers[layer], values[layer]);
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    LayerSummary& layer = summary.layers[i];
    layer.needed_capacity = spread_of(values[i].needed_capacity);
    layer.max_over_mean = spread_of(values[i].max_over_mean);
    layer.forward.us = spread_of(values[i].forward_us);
    layer.backward.us = spread_of(values[i].backward_us);
  }
  return summary;
}

}  // namespace flex
