#pragma once

#include <functional>
#include <span>
#include <vector>

#include "costmodel/simulator.h"

/// Two plain second implementations of what the simulator computes, from the executor's rules as they are
/// written: for every operation the list of all that must be done before it, and no more. Slow.
namespace flex::testing {

/// Duration of operation `index` of pass `pass` on `rank`, in microseconds.
using ReferenceDurations = std::function<double(std::size_t pass, std::size_t index, int rank)>;

struct ReferenceTimes {
  double begin_us = 0;
  double end_us = 0;
};
/// By (rank, operation), operations of all passes one after the other.
using ReferenceTimeline = std::vector<std::vector<ReferenceTimes>>;

/// Longest paths, by recursion. No slowdowns. `issue`: what the host needs to queue an operation; null:
/// nothing.
[[nodiscard]] ReferenceTimeline reference_longest_paths(std::span<const SimulatedPass> passes,
                                                        const ReferenceDurations& durations,
                                                        const ReferenceDurations& issue = {});

/// Small steps of `step_us`, in each of which every operation that can run does, at the rate that its
/// neighbours leave it. Ends are late by at most a step for each operation before.
[[nodiscard]] ReferenceTimeline reference_steps(std::span<const SimulatedPass> passes,
                                                const ReferenceDurations& durations,
                                                const OverlapSlowdown& slowdown, double step_us);

/// The last end.
[[nodiscard]] double last_end_us(const ReferenceTimeline& timeline);

}  // namespace flex::testing
