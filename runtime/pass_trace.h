#pragma once

#include <span>
#include <vector>

#include "costmodel/cluster.h"
#include "costmodel/operation_cost.h"
#include "costmodel/simulation.h"
#include "profiler/span.h"
#include "runtime/pass_measurement.h"

namespace flex {

/// The timelines `simulated` and `measured` of the same passes, each from its own start: what
/// write_chrome_trace() shows as two groups of processes. Operations of both have the same names, passes and
/// indices. `measured`: of all ranks, on one clock.
[[nodiscard]] std::vector<Span> side_by_side(const Simulation& simulation, std::span<const Span> measured);

/// Where a traced pass runs, and by which clock.
struct TraceSettings {
  Device device = Device::cpu();  ///< that in-process ranks share
  DType dtype = DType::kF32;
  RangeClock clock = RangeClock::kMarks;  ///< with CUPTI, the kernels, copies and memsets are spans, too
};

/// Runs one training pass of `pair` on in-process ranks, as many as `cluster` has, after some that are not
/// looked at, and simulates the same with `costs`. Blocking. @throws InputError for a plan that cannot run.
[[nodiscard]] std::vector<Span> trace_on_this_host(const MeasuredPair& pair, const TraceSettings& settings,
                                                   const Cluster& cluster, const OperationCosts& costs);

}  // namespace flex
