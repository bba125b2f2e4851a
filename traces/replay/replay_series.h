#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "traces/replay/replay.h"

namespace flex {

/// Steps of a scenario as the points of its series: at most kMaxPoints, of equally many steps each.
struct SeriesPoints {
  static constexpr std::int64_t kMaxPoints = 2000;
  std::vector<std::int64_t> first_step;
  std::int64_t steps_per_point = 1;
  std::vector<std::int32_t> of_iteration;  ///< by iteration: its point
  std::vector<std::int64_t> num_steps;     ///< by point; the last may have fewer
};
[[nodiscard]] SeriesPoints series_points(const ScenarioTrace& trace,
                                         std::int64_t max_points = SeriesPoints::kMaxPoints);

/// By layer, by point; nothing where a layer has no iteration in a point.
template <class T>
using LayerSeries = std::vector<std::vector<std::optional<T>>>;

/// The largest in each point of what `value(iteration)` says.
template <class T, class Value>
[[nodiscard]] LayerSeries<T> largest(const ScenarioTrace& trace, const SeriesPoints& points, Value&& value) {
  LayerSeries<T> series(trace.header.layers.size(), std::vector<std::optional<T>>(points.first_step.size()));
  for (std::size_t i = 0; i < trace.iterations.size(); ++i) {
    const ReplayIteration& iteration = trace.iterations[i];
    std::optional<T>& largest =
        series[static_cast<std::size_t>(iteration.layer)][static_cast<std::size_t>(points.of_iteration[i])];
    const T here = value(iteration);
    if (!largest || *largest < here) largest = here;
  }
  return series;
}

/// Time of a step, as the mean over the steps of each point.
[[nodiscard]] std::vector<double> step_means(const SeriesPoints& points,
                                             const std::vector<double>& iteration_us);

/// The plans of each point's first iteration, as index into PolicyResult::plans.
[[nodiscard]] LayerSeries<std::int32_t> first_plans(const ScenarioTrace& trace, const SeriesPoints& points,
                                                    const PolicyResult& result);

}  // namespace flex
