#include "traces/replay/expert_load_map.h"

#include <algorithm>

namespace flex {
namespace {

std::int64_t per_part(std::int64_t count, std::int64_t max_parts) {
  return std::max<std::int64_t>((count + max_parts - 1) / max_parts, 1);
}

}  // namespace

ExpertLoadCounter::ExpertLoadCounter(const TraceHeader& header, std::span<const std::int64_t> steps)
    : row_of_layer_(header.layers.size(), -1) {
  const auto num_layers = static_cast<std::int64_t>(header.layers.size());
  const std::int64_t rows = std::min(num_layers, ExpertLoadMap::kMaxLayers);
  std::int64_t most_experts = 1;
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto layer = static_cast<std::int32_t>(row * num_layers / rows);
    row_of_layer_[static_cast<std::size_t>(layer)] = static_cast<std::int32_t>(row);
    map_.layers.push_back(layer);
    most_experts =
        std::max(most_experts, header.layers[static_cast<std::size_t>(layer)].workload.num_experts);
  }
  map_.steps_per_bin = per_part(static_cast<std::int64_t>(steps.size()), ExpertLoadMap::kMaxBins);
  map_.experts_per_cell = per_part(most_experts, ExpertLoadMap::kMaxCells);
  for (std::size_t i = 0; i < steps.size(); i += static_cast<std::size_t>(map_.steps_per_bin)) {
    map_.first_step.push_back(steps[i]);
  }
  for (const std::int32_t layer : map_.layers) {
    const std::int64_t experts = header.layers[static_cast<std::size_t>(layer)].workload.num_experts;
    const std::vector<std::int64_t> cells(
        static_cast<std::size_t>((experts + map_.experts_per_cell - 1) / map_.experts_per_cell));
    map_.choices.emplace_back(map_.first_step.size(), cells);
  }
}

void ExpertLoadCounter::add(std::size_t step_index, std::int32_t layer, const SparseCounts& counts) {
  const std::int32_t row = row_of_layer_[static_cast<std::size_t>(layer)];
  if (row < 0) return;
  std::vector<std::int64_t>& cells =
      map_.choices[static_cast<std::size_t>(row)][step_index / static_cast<std::size_t>(map_.steps_per_bin)];
  for (std::size_t r = 0; r < counts.num_rows(); ++r) {
    for (const ExpertCount& entry : counts.row(r).experts) {
      cells[static_cast<std::size_t>(entry.expert / map_.experts_per_cell)] += entry.choices;
    }
  }
}

}  // namespace flex
