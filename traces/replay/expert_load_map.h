#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "traces/replay/scenario_trace.h"

/// Private to the replay.
namespace flex {

/// Adds up an ExpertLoadMap.
class ExpertLoadCounter {
 public:
  /// `steps`: of the trace, ascending.
  ExpertLoadCounter(const TraceHeader& header, std::span<const std::int64_t> steps);

  /// Counts of one iteration of the step with this index.
  void add(std::size_t step_index, std::int32_t layer, const SparseCounts& counts);
  [[nodiscard]] ExpertLoadMap take() && { return std::move(map_); }

 private:
  ExpertLoadMap map_;
  std::vector<std::int32_t> row_of_layer_;  // -1: not in the map
};

}  // namespace flex
