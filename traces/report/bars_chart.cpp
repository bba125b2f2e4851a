#include "traces/report/bars_chart.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/figures.h"
#include "costmodel/prediction.h"

namespace flex {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kRowHeight = 26;

Json name_scale(std::string_view data, double padding) {
  return {{"name", "y"},
          {"type", "band"},
          {"domain", {{"data", data}, {"field", "name"}}},
          {"range", "height"},
          {"padding", padding}};
}

Json name_axis() {
  Json axis = vega_axis("y", "left", "");
  axis.update(
      {{"grid", false}, {"ticks", false}, {"domain", false}, {"labelLimit", 190}, {"labelOverlap", false}});
  return axis;
}

// Axis over the longest bar: the text behind it stays in the picture of a page half as wide as a screen.
double room_for_text(std::size_t characters) { return 1.1 + 0.0125 * static_cast<double>(characters); }

// The order of bars: All-to-All first.
std::vector<std::string> ordered_classes(const std::vector<ClassBar>& bars) {
  const std::string exchange(name(OperationClass::kExchange));
  std::vector<std::string> classes = {exchange};
  for (const auto& [key, us] : bars.front().class_us) {
    if (key != exchange) classes.push_back(key);
  }
  return classes;
}

double sum_of(const ClassBar& bar) {
  double sum = 0;
  for (const auto& [key, us] : bar.class_us) sum += us;
  return sum;
}

Json class_rows(const std::vector<ClassBar>& bars, const std::vector<std::string>& classes) {
  Json rows = Json::array();
  for (const ClassBar& bar : bars) {
    const double all_us = sum_of(bar);
    double before_us = 0;
    for (const std::string& key : classes) {
      const auto found = std::ranges::find(bar.class_us, key, &std::pair<std::string, double>::first);
      const double us = found == bar.class_us.end() ? 0 : found->second;
      const double share = all_us > 0 ? us / all_us : 0;
      rows.push_back({{"name", bar.name},
                      {"from", before_us},
                      {"to", before_us + us},
                      {"from_share", all_us > 0 ? before_us / all_us : 0},
                      {"to_share", all_us > 0 ? (before_us + us) / all_us : 0},
                      {"share_text", fmt::format("{:.0f}%", 100 * share)},
                      {"colour", class_colour(key)},
                      {"tip", fmt::format("{}, {}: {}, {}", bar.name, class_title(key), format_us(us),
                                          percent_text(share))}});
      before_us += us;
    }
  }
  return rows;
}

HtmlTable class_table(const std::vector<ClassBar>& bars, const std::vector<std::string>& classes) {
  HtmlTable table{.columns = {"", "all"}};
  for (const std::string& key : classes) table.columns.push_back(class_title(key));
  for (const ClassBar& bar : bars) {
    const double all_us = sum_of(bar);
    std::vector<HtmlCell> row = {{bar.name}, {format_us(all_us)}};
    for (const std::string& key : classes) {
      const auto found = std::ranges::find(bar.class_us, key, &std::pair<std::string, double>::first);
      const double us = found == bar.class_us.end() ? 0 : found->second;
      row.push_back({fmt::format("{} ({})", format_us(us), percent_text(all_us > 0 ? us / all_us : 0))});
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

// The bar, its band, and the text behind.
Json bar_marks() {
  const Json middle = {{"scale", "y"}, {"field", "name"}, {"band", 0.5}};
  Json marks = {vega_mark("rect", "bars",
                          {{"x", {{"scale", "x"}, {"value", 0}}},
                           {"x2", {{"scale", "x"}, {"field", "value"}}},
                           {"y", {{"scale", "y"}, {"field", "name"}}},
                           {"height", {{"scale", "y"}, {"band", 1}}},
                           {"fill", {{"field", "colour"}}}}),
                vega_mark("rule", "bars",
                          {{"x", {{"scale", "x"}, {"field", "low"}}},
                           {"x2", {{"scale", "x"}, {"field", "high"}}},
                           {"y", middle},
                           {"stroke", {{"value", "var(--ink)"}}},
                           {"strokeWidth", {{"signal", "datum.banded ? 1.5 : 0"}}}}),
                vega_mark("text", "bars",
                          {{"x", {{"scale", "x"}, {"field", "high"}, {"offset", 6}}},
                           {"y", middle},
                           {"baseline", {{"value", "middle"}}},
                           {"fill", {{"value", "var(--ink)"}}},
                           {"text", {{"field", "text"}}}})};
  for (const char* end : {"low", "high"}) {  // caps of the band
    marks.push_back(vega_mark("rule", "bars",
                              {{"x", {{"scale", "x"}, {"field", end}}},
                               {"y", {{"scale", "y"}, {"field", "name"}, {"band", 0.25}}},
                               {"y2", {{"scale", "y"}, {"field", "name"}, {"band", 0.75}}},
                               {"stroke", {{"value", "var(--ink)"}}},
                               {"strokeWidth", {{"signal", "datum.banded ? 1.5 : 0"}}}}));
  }
  return marks;
}

// The parts, and their shares where there is room.
Json part_marks() {
  return {
      vega_mark("rect", "parts",
                {{"x", {{"scale", "x"}, {"field", "begin"}}},
                 {"x2", {{"scale", "x"}, {"field", "end"}}},
                 {"y", {{"scale", "y"}, {"field", "name"}}},
                 {"height", {{"scale", "y"}, {"band", 1}}},
                 {"stroke", {{"value", "var(--paper)"}}},
                 {"strokeWidth", {{"value", 0.75}}},
                 {"fill", {{"field", "colour"}}},
                 {"tooltip", {{"field", "tip"}}}}),
      vega_mark(
          "text", "parts",
          {{"x", {{"scale", "x"}, {"field", "begin"}}},
           {"dx", {{"value", 4}}},
           {"y", {{"scale", "y"}, {"field", "name"}, {"band", 0.5}}},
           {"baseline", {{"value", "middle"}}},
           {"fill", {{"value", "var(--on-mark)"}}},
           {"text",
            {{"signal", "scale('x', datum.end) - scale('x', datum.begin) > 34 ? datum.share_text : ''"}}}})};
}

}  // namespace

Json bars_spec(const std::vector<Bar>& bars, double most_us) {
  const TimeUnit unit = time_unit(most_us);
  std::size_t longest = 0;
  Json rows = Json::array();
  for (const Bar& bar : bars) {
    const double low = std::max(0.0, bar.us - bar.error_us) / unit.us;
    const std::string text = format_us(bar.us) + (bar.note.empty() ? "" : " · " + bar.note);
    longest = std::max(longest, text.size());
    rows.push_back({{"name", bar.name},
                    {"value", bar.us / unit.us},
                    {"low", low},
                    {"high", (bar.us + bar.error_us) / unit.us},
                    {"banded", bar.error_us > 0},
                    {"colour", bar.colour},
                    {"text", text}});
  }
  Json spec = vega_spec(kRowHeight * static_cast<int>(bars.size()));
  spec["data"].push_back(vega_data("bars", std::move(rows)));
  spec["scales"] = {name_scale("bars", 0.28),
                    {{"name", "x"},
                     {"domain", {0, std::max(most_us * room_for_text(longest) / unit.us, 1e-9)}},
                     {"range", "width"}}};
  Json time = vega_axis("x", "bottom", fmt::format("time in {}", unit.name));
  time["tickCount"] = 6;
  spec["axes"] = {std::move(time), name_axis()};
  spec["marks"] = bar_marks();
  return spec;
}

Chart class_bars_chart(const std::vector<ClassBar>& bars, double most_us) {
  const std::vector<std::string> classes = ordered_classes(bars);
  const TimeUnit unit = time_unit(most_us);
  Chart chart{.legend = class_legend(classes),
              .choice = ChartChoice{"unit", "bars", {"shares of the time", "times"}},
              .table = class_table(bars, classes)};
  Json& spec = chart.spec = vega_spec(kRowHeight * static_cast<int>(bars.size()));
  spec["signals"] = {
      {{"name", "unit"}, {"value", 0}},
      {{"name", "most"}, {"update", fmt::format("unit ? {} : 100", std::max(most_us / unit.us, 1e-9))}},
      {{"name", "xtitle"},
       {"update", fmt::format("unit ? 'time in {}' : 'part of the time in %'", unit.name)}}};
  Json parts = vega_data("parts", class_rows(bars, classes));
  for (const auto& [end, field] : {std::pair("begin", "from"), std::pair("end", "to")}) {
    parts["transform"].push_back(
        {{"type", "formula"},
         {"as", end},
         {"expr", fmt::format("unit ? datum.{0} / {1} : 100 * datum.{0}_share", field, unit.us)}});
  }
  spec["data"].push_back(std::move(parts));
  spec["scales"] = {name_scale("parts", 0.2),
                    {{"name", "x"}, {"domain", {0, {{"signal", "most"}}}}, {"range", "width"}}};
  Json x = vega_axis("x", "bottom", "");
  x.update({{"title", {{"signal", "xtitle"}}}, {"tickCount", 6}});
  spec["axes"] = {std::move(x), name_axis()};
  spec["marks"] = part_marks();
  return chart;
}

}  // namespace flex
