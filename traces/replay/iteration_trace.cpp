#include "traces/replay/iteration_trace.h"

#include <algorithm>
#include <utility>

#include "base/require.h"

namespace flex {

std::optional<PlanPair> TraceIteration::plans() const {
  if (!forward_plan && !backward_plan) return std::nullopt;
  return PlanPair{.forward = forward_plan ? *forward_plan : *backward_plan,
                  .backward = backward_plan ? *backward_plan : *forward_plan};
}

Passes IterationTrace::passes() const {
  return std::ranges::any_of(iterations, &TraceIteration::has_backward) ? Passes::kBoth : Passes::kForward;
}

TraceLayer IterationTrace::layer_of(const TraceIteration& iteration) const {
  TraceLayer layer = header.layers[static_cast<std::size_t>(iteration.layer)];
  layer.capacity_factor = iteration.capacity_factor;
  layer.workload.top_k = iteration.top_k;
  layer.workload.dropless = iteration.capacity_factor <= 0;
  return layer;
}

IterationCollector::IterationCollector(TraceHeader header)
    : trace_{.header = std::move(header)}, last_of_layer_(trace_.header.layers.size(), -1) {}

void IterationCollector::add(TraceRecord&& record) {
  std::int64_t& last = last_of_layer_[static_cast<std::size_t>(record.layer)];
  if (record.pass == Pass::kForward) {
    last = static_cast<std::int64_t>(trace_.iterations.size());
    trace_.iterations.push_back({.step = record.step,
                                 .layer = record.layer,
                                 .top_k = top_k_of(trace_.header, record),
                                 .capacity_factor = capacity_factor_of(trace_.header, record),
                                 .forward_plan = record.plan,
                                 .forward_ns = record.duration_ns,
                                 .counts = std::move(record.counts)});
    return;
  }
  const bool has_forward = last >= 0 && trace_.iterations[static_cast<std::size_t>(last)].step == record.step;
  require(has_forward, "a backward record of step {}, layer {} without its forward record before it",
          record.step, record.layer);
  TraceIteration& iteration = trace_.iterations[static_cast<std::size_t>(last)];
  iteration.has_backward = true;
  iteration.backward_plan = record.plan;
  iteration.backward_ns = record.duration_ns;
}

IterationTrace read_iterations(TraceReader& reader) {
  IterationCollector collector(reader.header());
  for (TraceRecord record; reader.next(record);) {
    collector.add(std::move(record));
    record = {};
  }
  IterationTrace trace = std::move(collector).take();
  if (reader.trailer()) trace.num_dropped = reader.trailer()->num_dropped;
  trace.damage = reader.damage();
  require(!trace.iterations.empty(), "{}",
          trace.damage.value_or("the trace has no forward records: there is nothing to replay"));
  return trace;
}

}  // namespace flex
