#include "runtime/pass_trace.h"

#include <algorithm>
#include <chrono>
#include <memory>

#include "costmodel/pass_sequence.h"
#include "costmodel/simulation_spans.h"
#include "costmodel/simulator.h"
#include "runtime/bind_thread.h"
#include "runtime/launch.h"
#include "runtime/timed_layer.h"

namespace flex {
namespace {

Simulation simulate_all_ranks(const MeasuredPair& pair, DType dtype, const Cluster& cluster,
                              const OperationCosts& costs) {
  PassSequence sequence;
  sequence.build({.workload = workload_of(pair.shape, dtype, cluster.world()),
                  .forward = pair.plan,
                  .backward = pair.plan,
                  .cluster = cluster,
                  .passes = Passes::kBoth});
  return simulate(sequence.passes(), costs, {.fold = false});
}

std::vector<Span> measure(const MeasuredPair& pair, const TraceSettings& settings, const Topology& topology) {
  constexpr auto kDeadline = std::chrono::minutes(1);
  constexpr int kWarmUp = 5;
  // Ends CUPTI when no rank calls CUDA any more.
  const std::unique_ptr<RangeSource> keeper = make_range_source(settings.device, settings.clock, 0, 0);
  std::vector<std::vector<Span>> by_rank(static_cast<std::size_t>(topology.world));
  run_ranks(topology, kDeadline, [&](Communicator& world) {
    if (settings.device.is_cpu()) bind_this_thread(world.rank());
    RankContext context(world, settings.device);
    Stream stream(context.device());
    TimedLayer layer(pair.shape, settings.dtype, 1, context, stream, settings.clock);
    layer.set_graph_policy(kNoGraphs);
    const PlanPair plans{pair.plan, pair.plan};
    for (int i = 0; i < kWarmUp; ++i) static_cast<void>(layer.time_blocking(plans));
    static_cast<void>(layer.trace_blocking(plans));
    std::vector<Span>& spans = by_rank[static_cast<std::size_t>(world.rank())];
    spans = layer.recorder().spans(0);
    for (Span& detail : layer.recorder().details(0)) spans.push_back(std::move(detail));
  });
  std::vector<Span> all;
  for (const std::vector<Span>& spans : by_rank) all.insert(all.end(), spans.begin(), spans.end());
  return all;
}

}  // namespace

std::vector<Span> side_by_side(const Simulation& simulation, std::span<const Span> measured) {
  std::vector<Span> spans = spans_of(simulation, "simulated");
  if (measured.empty()) return spans;
  const std::int64_t origin_ns = std::ranges::min_element(measured, {}, &Span::begin_ns)->begin_ns;
  for (Span span : measured) {
    span.process_group = "measured";
    span.begin_ns -= origin_ns;
    span.end_ns -= origin_ns;
    spans.push_back(std::move(span));
  }
  return spans;
}

std::vector<Span> trace_on_this_host(const MeasuredPair& pair, const TraceSettings& settings,
                                     const Cluster& cluster, const OperationCosts& costs) {
  return side_by_side(simulate_all_ranks(pair, settings.dtype, cluster, costs),
                      measure(pair, settings, cluster.topology()));
}

}  // namespace flex
