#include "traces/replay/replay_series.h"

#include <algorithm>

namespace flex {

SeriesPoints series_points(const ScenarioTrace& trace, std::int64_t max_points) {
  const auto num_steps = static_cast<std::int64_t>(trace.steps.size());
  SeriesPoints points{.steps_per_point =
                          std::max<std::int64_t>((num_steps + max_points - 1) / max_points, 1)};
  for (std::int64_t step = 0; step < num_steps; step += points.steps_per_point) {
    points.first_step.push_back(trace.steps[static_cast<std::size_t>(step)]);
    points.num_steps.push_back(std::min(points.steps_per_point, num_steps - step));
  }
  std::int64_t index = -1;
  std::optional<std::int64_t> last;
  for (const ReplayIteration& iteration : trace.iterations) {
    if (last != iteration.step) ++index;
    last = iteration.step;
    points.of_iteration.push_back(static_cast<std::int32_t>(index / points.steps_per_point));
  }
  return points;
}

std::vector<double> step_means(const SeriesPoints& points, const std::vector<double>& iteration_us) {
  std::vector<double> means(points.first_step.size());
  for (std::size_t i = 0; i < iteration_us.size(); ++i) {
    means[static_cast<std::size_t>(points.of_iteration[i])] += iteration_us[i];
  }
  for (std::size_t p = 0; p < means.size(); ++p) means[p] /= static_cast<double>(points.num_steps[p]);
  return means;
}

LayerSeries<std::int32_t> first_plans(const ScenarioTrace& trace, const SeriesPoints& points,
                                      const PolicyResult& result) {
  LayerSeries<std::int32_t> series(trace.header.layers.size(),
                                   std::vector<std::optional<std::int32_t>>(points.first_step.size()));
  for (std::size_t i = 0; i < trace.iterations.size(); ++i) {
    std::optional<std::int32_t>& first = series[static_cast<std::size_t>(trace.iterations[i].layer)]
                                               [static_cast<std::size_t>(points.of_iteration[i])];
    if (!first) first = result.iteration_plan[i];
  }
  return series;
}

}  // namespace flex
