#include "traces/report/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace flex {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kStatic = "static:";

// Policies write a pair as `static:A/B`, lists of plans as `A / B`.
std::string plain_name(std::string_view name) {
  if (name.starts_with(kStatic)) name.remove_prefix(kStatic.size());
  const std::size_t slash = name.find(" / ");
  if (slash == std::string_view::npos) return std::string(name);
  std::string plain(name.substr(0, slash));
  plain += '/';
  plain += name.substr(slash + 3);
  return plain;
}

}  // namespace

void Palette::add(std::string_view name) {
  if (index(name) == names_.size()) names_.push_back(plain_name(name));
}

std::size_t Palette::index(std::string_view name) const {
  const auto alias = aliases_.find(plain_name(name));
  const std::string known = alias == aliases_.end() ? plain_name(name) : alias->second;
  return static_cast<std::size_t>(std::ranges::find(names_, known) - names_.begin());
}

void Palette::add_alias(std::string_view alias, std::string_view name) {
  add(name);
  if (!aliases_.contains(plain_name(alias))) aliases_.emplace(plain_name(alias), plain_name(name));
}

std::string Palette::text_colour(std::string_view name) const {
  const std::size_t i = index(name);
  return i < std::min(names_.size(), kNumColours) ? fmt::format("var(--on-c{}, var(--on-colour))", i)
                                                  : "var(--on-other)";
}

std::string Palette::colour(std::string_view name) const {
  const std::size_t i = index(name);
  return i < std::min(names_.size(), kNumColours) ? fmt::format("var(--c{})", i) : "var(--other)";
}

LegendEntry::Shape Palette::line(std::string_view name) const {
  constexpr std::array kShapes = {LegendEntry::Shape::kLine, LegendEntry::Shape::kDashed,
                                  LegendEntry::Shape::kDotted};
  return kShapes[index(name) % kShapes.size()];
}

std::string class_colour(std::string_view operation_class) {
  return fmt::format("var(--class-{})", operation_class);
}

std::string class_title(std::string_view operation_class) {
  constexpr std::pair<std::string_view, std::string_view> kTitles[] = {
      {"gating", "gate and routing"}, {"moving", "encode, decode"}, {"experts", "experts"},
      {"exchange", "All-to-All"},     {"weights", "weights"},       {"host", "agreement"}};
  for (const auto& [key, title] : kTitles) {
    if (key == operation_class) return std::string(title);
  }
  return std::string(operation_class);
}

std::vector<LegendEntry> class_legend(const std::vector<std::string>& classes) {
  std::vector<LegendEntry> legend;
  for (const std::string& one : classes) legend.push_back({class_title(one), class_colour(one)});
  return legend;
}

Json dash_of(LegendEntry::Shape shape) {
  switch (shape) {
    case LegendEntry::Shape::kDashed:
      return Json::array({7, 3});
    case LegendEntry::Shape::kDotted:
      return Json::array({2, 2});
    default:
      return Json::array({1, 0});
  }
}

TimeUnit time_unit(double max_us) {
  if (max_us < 1e3) return {"µs", 1};
  if (max_us < 1e6) return {"ms", 1e3};
  return {"s", 1e6};
}

Json vega_spec(int height) {
  return {{"width", 640},
          {"height", height},
          {"padding", 2},
          {"autosize", {{"type", "fit-x"}, {"contains", "padding"}}},
          {"signals", Json::array()},
          {"data", Json::array()},
          {"scales", Json::array()},
          {"axes", Json::array()},
          {"marks", Json::array()}};
}

Json vega_data(std::string_view name, Json rows) { return {{"name", name}, {"values", std::move(rows)}}; }

Json vega_axis(std::string_view scale, std::string_view orient, std::string_view title) {
  Json axis = {{"scale", scale}, {"orient", orient}, {"labelOverlap", "greedy"}};
  if (!title.empty()) axis["title"] = title;
  return axis;
}

Json vega_mark(std::string_view type, std::string_view data, Json update) {
  Json mark = {{"type", type}, {"from", {{"data", data}}}, {"encode", {{"update", std::move(update)}}}};
  if (type == "text") mark["interactive"] = false;
  return mark;
}

std::vector<std::size_t> picked_rows(std::size_t count, std::size_t most) {
  std::vector<std::size_t> rows;
  const std::size_t shown = std::min(count, most);
  for (std::size_t i = 0; i < shown; ++i) {
    rows.push_back(shown == 1 ? count - 1 : i * (count - 1) / (shown - 1));
  }
  return rows;
}

std::string picked_text(std::size_t count, std::size_t most) {
  if (count <= most) return {};
  return fmt::format("{} of {} rows, evenly picked; the document has all", most, count);
}

std::string percent_text(std::optional<double> share, bool is_signed) {
  if (!share) return "–";
  const double percent = 100 * *share;
  const double size = std::abs(percent);
  const int digits = size < 0.0995 && size >= 0.005 ? 2 : 1;
  if (size < 0.005) return is_signed ? "+0.0%" : "0.0%";
  return is_signed ? fmt::format("{:+.{}f}%", percent, digits) : fmt::format("{:.{}f}%", percent, digits);
}

std::string factor_text(std::optional<double> factor) {
  return factor ? fmt::format("{:.3f}×", *factor) : "–";
}

}  // namespace flex
