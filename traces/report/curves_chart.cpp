#include "traces/report/curves_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace flex {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kLogarithmicFrom = 100;  // the largest over the least value
constexpr std::size_t kMostTableRows = 100;

struct Extent {
  double least = std::numeric_limits<double>::infinity();
  double most = -std::numeric_limits<double>::infinity();
  std::int64_t last_step = 1;
};

Extent extent_of(const std::vector<Curve>& curves) {
  Extent extent;
  for (const Curve& curve : curves) {
    for (const CurvePoint& point : curve.points) {
      extent.least = std::min(extent.least, point.value);
      extent.most = std::max(extent.most, point.value);
      extent.last_step = std::max(extent.last_step, point.step);
    }
  }
  return extent;
}

Json rows_of(const std::vector<Curve>& curves) {
  Json rows = Json::array();
  for (const Curve& curve : curves) {
    for (const CurvePoint& point : curve.points) {
      rows.push_back({{"name", curve.name},
                      {"colour", curve.colour},
                      {"dash", dash_of(curve.line)},
                      // A line through one point has no length.
                      {"marked", curve.shows_points || curve.points.size() == 1},
                      {"step", point.step},
                      {"value", point.value},
                      {"tip", fmt::format("{}, step {}: {:.4g}", curve.name, point.step, point.value)}});
    }
  }
  return rows;
}

HtmlTable table_of(const std::vector<Curve>& curves, const std::string& what) {
  HtmlTable table{.columns = {"curve", "step", what}};
  const std::size_t of_each = std::max<std::size_t>(2, kMostTableRows / curves.size());
  for (const Curve& curve : curves) {
    if (curve.points.size() > of_each)
      table.caption = fmt::format("At most {} points of a curve, evenly picked; the files have all", of_each);
    for (const std::size_t i : picked_rows(curve.points.size(), of_each)) {
      table.rows.push_back({{curve.name},
                            {fmt::format("{}", curve.points[i].step)},
                            {fmt::format("{:.4g}", curve.points[i].value)}});
    }
  }
  return table;
}

bool is_logarithmic(const Extent& extent, const CurveAxis& axis) {
  return axis.may_be_logarithmic && extent.least > 0 && extent.most > kLogarithmicFrom * extent.least;
}

// Otherwise there is a line for each digit.
Json powers_of_ten(const Extent& extent) {
  Json powers = Json::array();
  const double last = std::ceil(std::log10(extent.most));
  for (double exponent = std::floor(std::log10(extent.least)); exponent <= last; ++exponent)
    powers.push_back(std::pow(10.0, exponent));
  return powers;
}

Json value_scale(const Extent& extent, const CurveAxis& axis) {
  Json scale = {{"name", "y"}, {"range", "height"}, {"nice", true}};
  if (is_logarithmic(extent, axis)) {
    scale["type"] = "log";
    scale["domain"] = {extent.least, extent.most};
    return scale;
  }
  double least = axis.from_zero ? std::min(0.0, extent.least) : extent.least;
  double most = extent.most;
  if (!(most > least)) {  // a level line
    least -= axis.from_zero ? 0 : 0.5;
    most = least + 1;
  }
  scale["zero"] = axis.from_zero;
  scale["domain"] = {least, most};
  return scale;
}

Json marks() {
  const Json place = {{"x", {{"scale", "x"}, {"field", "step"}}},
                      {"y", {{"scale", "y"}, {"field", "value"}}}};
  Json line = place;
  line.update({{"stroke", {{"field", "colour"}}},
               {"strokeDash", {{"field", "dash"}}},
               {"strokeWidth", {{"value", 1.75}}},
               {"strokeJoin", {{"value", "round"}}}});
  Json symbol = place;
  symbol.update(
      {{"size", {{"value", 28}}}, {"fill", {{"field", "colour"}}}, {"tooltip", {{"field", "tip"}}}});
  return {{{"type", "group"},
           {"from", {{"facet", {{"name", "of_name"}, {"data", "points"}, {"groupby", "name"}}}}},
           {"marks", {vega_mark("line", "of_name", std::move(line))}}},
          vega_mark("symbol", "marked", std::move(symbol))};
}

Json spec_of(const std::vector<Curve>& curves, const CurveAxis& axis) {
  const Extent extent = extent_of(curves);
  Json spec = vega_spec(220);
  spec["data"].push_back(vega_data("points", rows_of(curves)));
  Json marked = {{"name", "marked"}, {"source", "points"}};
  marked["transform"] = {{{"type", "filter"}, {"expr", "datum.marked"}}};
  spec["data"].push_back(std::move(marked));
  spec["scales"] = {{{"name", "x"}, {"domain", {0, extent.last_step}}, {"range", "width"}},
                    value_scale(extent, axis)};
  Json x = vega_axis("x", "bottom", "step");
  x.update({{"grid", false}, {"format", "d"}, {"tickCount", 6}, {"tickMinStep", 1}});
  Json y = vega_axis("y", "left", axis.title);
  y["tickCount"] = 5;
  if (is_logarithmic(extent, axis)) y["values"] = powers_of_ten(extent);
  if (!axis.format.empty()) y["format"] = axis.format;
  spec["axes"] = {std::move(x), std::move(y)};
  spec["marks"] = marks();
  return spec;
}

}  // namespace

std::vector<CurvePoint> thinned(const std::vector<CurvePoint>& points, std::size_t most) {
  if (points.size() <= most) return points;
  std::vector<CurvePoint> thin;
  for (std::size_t bin = 0; bin < most; ++bin) {
    const std::size_t begin = bin * points.size() / most;
    const std::size_t end = (bin + 1) * points.size() / most;
    double sum = 0;
    for (std::size_t i = begin; i < end; ++i) sum += points[i].value;
    thin.push_back({points[end - 1].step, sum / static_cast<double>(end - begin)});
  }
  return thin;
}

std::optional<Chart> curves_chart(std::string title, std::vector<Curve> curves, const CurveAxis& axis) {
  std::erase_if(curves, [](const Curve& curve) { return curve.points.empty(); });
  if (curves.empty()) return std::nullopt;
  Chart chart{.title = std::move(title), .table = table_of(curves, axis.title)};
  std::size_t most = 0;
  for (Curve& curve : curves) {
    most = std::max(most, curve.points.size());
    curve.points = thinned(curve.points);
    chart.legend.push_back({curve.name, curve.colour, curve.line});
  }
  if (most > kMostCurvePoints)
    chart.note = fmt::format("Each point is the mean of up to {} logged steps.",
                             (most + kMostCurvePoints - 1) / kMostCurvePoints);
  chart.description = fmt::format("{} curve(s) of {} over training steps.", curves.size(), axis.title);
  chart.spec = spec_of(curves, axis);
  return chart;
}

}  // namespace flex
