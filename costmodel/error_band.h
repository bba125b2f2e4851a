#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

/// Private to the cost model: how errors are summed up.
namespace flex {

/// Part of the errors that lies within a band: what one standard deviation holds of a normal distribution.
inline constexpr double kBandQuantile = 0.683;

/// The `part` quantile of `values`, between the two nearest ones; `values` are not empty.
[[nodiscard]] inline double quantile(std::vector<double> values, double part) {
  std::ranges::sort(values);
  const double place = part * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
}

}  // namespace flex
