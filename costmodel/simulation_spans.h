#pragma once

#include <string_view>
#include <vector>

#include "costmodel/simulation.h"
#include "profiler/span.h"

namespace flex {

/// The timeline of a simulation: one span for each operation of each simulated rank, from when its group was
/// ready, rounded to nanoseconds. A folded simulation has rank 0 alone.
[[nodiscard]] std::vector<Span> spans_of(const Simulation& simulation,
                                         std::string_view process_group = "simulated");

}  // namespace flex
