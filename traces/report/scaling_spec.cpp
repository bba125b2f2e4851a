#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

#include "base/figures.h"
#include "traces/report/bars_chart.h"

namespace flex {
namespace {

using Json = nlohmann::ordered_json;

// 1, 2 and 5 times powers of ten.
Json logarithmic_ticks(double least, double most) {
  Json ticks = Json::array();
  for (double power = std::pow(10.0, std::floor(std::log10(least))); power <= most; power *= 10) {
    for (const double step : {1.0, 2.0, 5.0}) {
      if (step * power >= least && step * power <= most) ticks.push_back(step * power);
    }
  }
  return ticks;
}

Json scaling_rows(const std::vector<ScalePoint>& points, const TimeUnit& unit) {
  std::set<std::pair<std::string, double>> placed;
  Json rows = Json::array();
  for (const ScalePoint& point : points) {
    // Of several times at one size the first is on the line, and the others are points beside it.
    const bool on_line = placed.emplace(point.name, point.ranks).second;
    if (point.us <= 0) continue;  // a logarithmic axis has no place for it
    rows.push_back({{"name", point.name},
                    {"colour", point.colour},
                    {"dash", dash_of(point.line)},
                    {"ranks", point.ranks},
                    {"on_line", on_line},
                    {"value", point.us / unit.us},
                    {"low", std::max(point.us - point.error_us, point.us / 10) / unit.us},
                    {"high", (point.us + point.error_us) / unit.us},
                    {"tip", fmt::format("{}, {} ranks: {}{}{}", point.name, point.ranks, format_us(point.us),
                                        point.note.empty() ? "" : ", ", point.note)}});
  }
  return rows;
}

// Bands, lines, points.
Json scaling_marks() {
  const Json line = vega_mark("line", "of_name",
                              {{"x", {{"scale", "x"}, {"field", "ranks"}}},
                               {"y", {{"scale", "y"}, {"field", "value"}}},
                               {"stroke", {{"field", "colour"}}},
                               {"strokeDash", {{"field", "dash"}}},
                               {"strokeWidth", {{"value", 2}}}});
  return {vega_mark("rule", "points",
                    {{"x", {{"scale", "x"}, {"field", "ranks"}}},
                     {"y", {{"scale", "y"}, {"field", "low"}}},
                     {"y2", {{"scale", "y"}, {"field", "high"}}},
                     {"stroke", {{"field", "colour"}}},
                     {"strokeOpacity", {{"value", 0.6}}}}),
          {{"type", "group"},
           {"from", {{"facet", {{"name", "of_name"}, {"data", "lines"}, {"groupby", "name"}}}}},
           {"marks", {line}}},
          vega_mark("symbol", "points",
                    {{"x", {{"scale", "x"}, {"field", "ranks"}}},
                     {"y", {{"scale", "y"}, {"field", "value"}}},
                     {"size", {{"value", 45}}},
                     {"fill", {{"field", "colour"}}},
                     {"tooltip", {{"field", "tip"}}}})};
}

}  // namespace

Json scaling_spec(const std::vector<ScalePoint>& points) {
  double most_us = 0;
  double least_us = std::numeric_limits<double>::infinity();
  std::set<double> sizes;
  for (const ScalePoint& point : points) {
    most_us = std::max(most_us, point.us + point.error_us);
    if (point.us > 0) least_us = std::min(least_us, std::max(point.us - point.error_us, point.us / 10));
    sizes.insert(point.ranks);
  }
  if (most_us <= 0) least_us = most_us = 1;  // nothing to draw
  const TimeUnit unit = time_unit(most_us);
  const double least = least_us / unit.us * 0.8;
  const double most = most_us / unit.us * 1.25;
  Json spec = vega_spec(260);
  spec["data"].push_back(vega_data("points", scaling_rows(points, unit)));
  Json lines = {{"name", "lines"}, {"source", "points"}};
  lines["transform"] = {{{"type", "filter"}, {"expr", "datum.on_line"}}};
  spec["data"].push_back(std::move(lines));
  spec["scales"] = {{{"name", "x"},
                     {"type", "log"},
                     {"base", 2},
                     {"domain", {*sizes.begin() / 1.1, *sizes.rbegin() * 1.1}},
                     {"range", "width"}},
                    {{"name", "y"}, {"type", "log"}, {"domain", {least, most}}, {"range", "height"}}};
  Json x = vega_axis("x", "bottom", "ranks (logarithmic)");
  x.update({{"values", Json(sizes)}, {"format", "d"}});
  Json y = vega_axis("y", "left", fmt::format("time in {} (logarithmic)", unit.name));
  y.update({{"values", logarithmic_ticks(least, most)}, {"format", "~g"}});
  spec["axes"] = {std::move(x), std::move(y)};
  spec["marks"] = scaling_marks();
  return spec;
}

}  // namespace flex
