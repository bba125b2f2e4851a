#pragma once

#include <optional>
#include <string>
#include <vector>

#include "traces/report/chart.h"

/// Curves over training steps. Private to the report.
namespace flex {

struct CurvePoint {
  std::int64_t step = 0;
  double value = 0;
};

struct Curve {
  std::string name;  ///< unlike that of other curves of the chart
  std::string colour;
  LegendEntry::Shape line = LegendEntry::Shape::kLine;
  bool shows_points = false;  ///< a mark for each: of what is measured now and then
  std::vector<CurvePoint> points;
};

/// Scale of the values of curves.
struct CurveAxis {
  std::string title;
  std::string format;  ///< of labels, d3's; empty: as it comes
  bool from_zero = true;
  bool may_be_logarithmic = false;  ///< if the largest value is more than a hundred times the least
};

/// Most points that are drawn of one curve; of more, means of neighbours.
inline constexpr std::size_t kMostCurvePoints = 400;

/// The points as they are drawn: of more than `most`, the mean value of as many neighbours each, at the last
/// one's step.
[[nodiscard]] std::vector<CurvePoint> thinned(const std::vector<CurvePoint>& points,
                                              std::size_t most = kMostCurvePoints);

/// Lines over steps with their numbers as a table. Curves without points are left out; nothing if none is
/// left.
[[nodiscard]] std::optional<Chart> curves_chart(std::string title, std::vector<Curve> curves,
                                                const CurveAxis& axis);

}  // namespace flex
