#include "traces/routing_trace.h"

#include <algorithm>
#include <cmath>

#include "base/require.h"
#include "kernels/moe/route.h"

namespace flex {
namespace {

void validate_layer(const TraceHeader& header, std::size_t index) {
  const TraceLayer& layer = header.layers[index];
  const Workload& w = layer.workload;
  require(w.world == header.world, "layers[{}]: is for {} ranks; the trace has {}", index, w.world,
          header.world);
  require(w.num_experts <= kMaxTraceExperts, "layers[{}]: num_experts is {}; it is at most {}", index,
          w.num_experts, kMaxTraceExperts);
  require(w.num_tokens <= kMaxTraceCount, "layers[{}]: num_tokens is {}; it is at most {}", index,
          w.num_tokens, kMaxTraceCount);
  require(std::isfinite(layer.capacity_factor), "layers[{}]: capacity_factor is {}; it is finite", index,
          layer.capacity_factor);
  require(w.dropless == (layer.capacity_factor <= 0),
          "layers[{}]: a layer is dropless exactly if its capacity_factor is not above 0; it is {}", index,
          layer.capacity_factor);
  try {
    validate(w);
  } catch (const InputError& error) {
    fail("layers[{}]: {}", index, error.what());
  }
}

// For people, on one line.
void validate_text(std::string_view field, std::string_view text) {
  constexpr std::size_t kMaxBytes = 4096;
  require(text.size() <= kMaxBytes, "{}: has {} bytes; it has at most {}", field, text.size(), kMaxBytes);
  const bool is_line = std::ranges::none_of(text, [](unsigned char c) { return c < 0x20U || c == 0x7FU; });
  require(is_line, "{}: has a control character; it is one line of text", field);
}

}  // namespace

std::string_view name(TraceSource source) {
  switch (source) {
    case TraceSource::kRecorded:
      return "recorded";
    case TraceSource::kGenerated:
      return "generated";
    case TraceSource::kImported:
      return "imported";
    case TraceSource::kResharded:
      return "resharded";
  }
  return "?";
}

void validate(const TraceHeader& header) {
  require(header.world >= 1 && header.world <= kMaxTraceWorld, "world: is {}; it is from 1 to {}",
          header.world, kMaxTraceWorld);
  require(header.ranks_per_node >= 1 && header.world % header.ranks_per_node == 0,
          "ranks_per_node: is {}; it divides the {} ranks", header.ranks_per_node, header.world);
  require(!header.layers.empty() && static_cast<std::int64_t>(header.layers.size()) <= kMaxTraceLayers,
          "layers: there are {}; a trace has 1 to {}", header.layers.size(), kMaxTraceLayers);
  require(!header.origins.empty(), "origins: there are none; the first says what made the trace");
  for (std::size_t i = 0; i < header.layers.size(); ++i) validate_layer(header, i);
  validate_text("model", header.model);
  validate_text("hardware", header.hardware);
  for (std::size_t i = 0; i < header.origins.size(); ++i) {
    const TraceOrigin& origin = header.origins[i];
    for (const std::string& text : {origin.workload, origin.policy, origin.file}) {
      validate_text(fmt::format("origins[{}]", i), text);
    }
  }
}

std::int64_t top_k_of(const TraceHeader& header, const TraceRecord& forward) {
  return forward.top_k.value_or(header.layers[static_cast<std::size_t>(forward.layer)].workload.top_k);
}

double capacity_factor_of(const TraceHeader& header, const TraceRecord& forward) {
  return forward.capacity_factor.value_or(
      header.layers[static_cast<std::size_t>(forward.layer)].capacity_factor);
}

namespace {

Workload workload_of(const TraceHeader& header, const TraceRecord& forward, Pass pass,
                     const CountSummary& summary) {
  Workload w = header.layers[static_cast<std::size_t>(forward.layer)].workload;
  const double capacity_factor = capacity_factor_of(header, forward);
  w.top_k = top_k_of(header, forward);
  w.num_tokens = summary.max_choices / w.top_k;
  w.capacity =
      expert_capacity(w.top_k, capacity_factor, w.num_tokens, w.num_experts, summary.needed_capacity);
  w.dropless = capacity_factor <= 0;
  w.pass = pass;
  validate(w);
  return w;
}

}  // namespace

Workload workload_of(const TraceHeader& header, const TraceRecord& forward, Pass pass) {
  const std::int64_t num_experts =
      header.layers[static_cast<std::size_t>(forward.layer)].workload.num_experts;
  return workload_of(header, forward, pass, summarize(forward.counts, num_experts));
}

LayerLoad load_of(const TraceHeader& header, const TraceRecord& forward) {
  const std::int64_t num_experts =
      header.layers[static_cast<std::size_t>(forward.layer)].workload.num_experts;
  const CountSummary summary = summarize(forward.counts, num_experts);
  LayerLoad load{.workload = workload_of(header, forward, Pass::kForward, summary)};
  if (!load.workload.dropless) return load;
  // With f < 0 choices beyond the capacity are dropped, and the layer does not count them.
  load.max_over_mean = load.workload.capacity < summary.needed_capacity
                           ? max_over_mean_within(forward.counts, load.workload.capacity, num_experts)
                           : summary.max_over_mean;
  return load;
}

}  // namespace flex
