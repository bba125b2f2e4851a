#pragma once

#include <string>
#include <utility>
#include <vector>

#include "traces/report/chart.h"

/// Charts that replays, searches and predictions share. Private to the report.
namespace flex {

struct Bar {
  std::string name;
  std::string colour;
  double us = 0;
  double error_us = 0;  ///< half of the band; 0: none
  std::string note;     ///< after the time, at the end of the bar
};

/// Horizontal bars of times from 0 to `most_us`, each with its band.
[[nodiscard]] nlohmann::ordered_json bars_spec(const std::vector<Bar>& bars, double most_us);

struct ClassBar {
  std::string name;
  std::vector<std::pair<std::string, double>> class_us;
};

/// Horizontal bars of parts. Signal `unit`: 0 for shares of the bar, 1 for times up to `most_us`. All-to-All
/// comes first, so that it is read off the axis.
[[nodiscard]] Chart class_bars_chart(const std::vector<ClassBar>& bars, double most_us);

struct ScalePoint {
  std::string name;
  std::string colour;
  LegendEntry::Shape line = LegendEntry::Shape::kLine;
  double ranks = 0;
  double us = 0;
  double error_us = 0;
  std::string note;
};

/// Lines over the number of ranks, both axes logarithmic.
[[nodiscard]] nlohmann::ordered_json scaling_spec(const std::vector<ScalePoint>& points);

}  // namespace flex
