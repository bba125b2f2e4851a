#include "traces/report/replay_charts.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/figures.h"
#include "costmodel/prediction.h"
#include "traces/report/bars_chart.h"

namespace flex {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kBandNote =
    "The thin line with caps is the error band of the model: errors are the same in every iteration, so that "
    "policies differ more surely than the bands overlap.";

Json line_mark(const char* data) {
  return {{"type", "line"},
          {"from", {{"data", data}}},
          {"encode",
           {{"update",
             {{"x", {{"scale", "x"}, {"field", "step"}}},
              {"y", {{"scale", "y"}, {"field", "value"}}},
              {"defined", {{"signal", "isValid(datum.value)"}}},
              {"stroke", {{"field", "colour"}}},
              {"strokeDash", {{"field", "dash"}}},
              {"strokeWidth", {{"value", 2}}}}}}}};
}

// The oracle has none, by its name.
bool has_regret(const ReportPolicy& policy) {
  return policy.name != "oracle" && !policy.step_regret_us.empty();
}

// Sums so far and means of each step, by policy.
Json regret_rows(const ReportScenario& scenario, const Palette& palette, std::int64_t steps) {
  Json rows = Json::array();
  const std::size_t points = scenario.first_step.size();
  for (const ReportPolicy& policy : scenario.policies) {
    if (!has_regret(policy)) continue;
    double sum_us = 0;
    for (std::size_t i = 0; i < std::min(points, policy.step_regret_us.size()); ++i) {
      const std::int64_t before = static_cast<std::int64_t>(i) * scenario.steps_per_point;
      const std::int64_t here = std::clamp<std::int64_t>(steps - before, 1, scenario.steps_per_point);
      sum_us += policy.step_regret_us[i].value_or(0) * static_cast<double>(here);
      rows.push_back({{"policy", policy.name},
                      {"step", scenario.first_step[i]},
                      {"sum", sum_us},
                      {"each", policy.step_regret_us[i] ? Json(*policy.step_regret_us[i]) : Json()},
                      {"colour", palette.colour(policy.name)},
                      {"dash", dash_of(palette.line(policy.name))}});
    }
  }
  return rows;
}

std::pair<double, double> largest_regrets(const Json& rows) {
  double sum = 0;
  double each = 0;
  for (const Json& row : rows) {
    sum = std::max(sum, row["sum"].get<double>());
    if (!row["each"].is_null()) each = std::max(each, row["each"].get<double>());
  }
  return {sum, each};
}

HtmlTable regret_table(const ReportScenario& scenario) {
  HtmlTable table{.caption = picked_text(scenario.first_step.size()), .columns = {"step"}};
  for (const ReportPolicy& policy : scenario.policies) {
    if (has_regret(policy)) table.columns.push_back(policy.name);
  }
  for (const std::size_t i : picked_rows(scenario.first_step.size())) {
    std::vector<HtmlCell> row = {{fmt::format("{}", scenario.first_step[i])}};
    for (const ReportPolicy& policy : scenario.policies) {
      if (!has_regret(policy)) continue;
      const auto value = i < policy.step_regret_us.size() ? policy.step_regret_us[i] : std::nullopt;
      row.push_back({value ? format_us(*value) : "–"});
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

}  // namespace

Chart totals_chart(const ReportScenario& scenario, const Palette& palette, double most_us) {
  std::vector<Bar> bars;
  HtmlTable table{.columns = {"policy", "total time", "band", "over default"}};
  for (const ReportPolicy& policy : scenario.policies) {
    bars.push_back({.name = policy.name,
                    .colour = palette.colour(policy.name),
                    .us = policy.total_us,
                    .error_us = policy.error_us.value_or(0),
                    .note = policy.speedup_over_default ? factor_text(policy.speedup_over_default) : ""});
    table.rows.push_back({{policy.name},
                          {format_us(policy.total_us)},
                          {policy.error_us ? "± " + format_us(*policy.error_us) : "–"},
                          {factor_text(policy.speedup_over_default)}});
  }
  const auto& main = scenario.policies[scenario.main_policy()];
  return {.title = "Total time of each policy",
          .note = fmt::format(
              "Time of the MoE layers in all iterations, and how many times as fast as the default "
              "plan. {}",
              kBandNote),
          .description = fmt::format("Bars of the total time of {} policies; {} takes {}.", bars.size(),
                                     main.name, format_us(main.total_us)),
          .spec = bars_spec(bars, most_us),
          .table = std::move(table)};
}

std::optional<Chart> regret_chart(const ReportScenario& scenario, const Palette& palette,
                                  std::int64_t steps) {
  Json rows = regret_rows(scenario, palette, steps);
  if (rows.empty()) return std::nullopt;
  const auto [sum_us, each_us] = largest_regrets(rows);
  const TimeUnit sum_unit = time_unit(sum_us);
  const TimeUnit each_unit = time_unit(each_us);
  Chart chart{.title = "Regret over time",
              .note =
                  "What each policy takes above the oracle, which knows the routing of every iteration "
                  "beforehand: the sum "
                  "so far (a flat line: as good as the oracle), or each step.",
              .description = fmt::format("Lines of the regret of {} policies over {} steps.",
                                         scenario.policies.size(), steps),
              .spec = vega_spec(230),
              .choice = ChartChoice{"each", "show", {"sum so far", "each step"}},
              .table = regret_table(scenario)};
  for (const ReportPolicy& policy : scenario.policies) {
    if (!has_regret(policy)) continue;
    chart.legend.push_back({policy.name, palette.colour(policy.name), palette.line(policy.name)});
  }
  Json data = vega_data("points", std::move(rows));
  data["transform"] = {
      {{"type", "formula"},
       {"as", "value"},
       {"expr", fmt::format("each ? (datum.each === null ? null : datum.each / {}) : datum.sum / {}",
                            each_unit.us, sum_unit.us)}}};
  Json& spec = chart.spec;
  spec["signals"] = {{{"name", "each"}, {"value", 0}},
                     {{"name", "ytitle"},
                      {"update", fmt::format("each ? 'regret of a step in {}' : 'regret so far in {}'",
                                             each_unit.name, sum_unit.name)}}};
  spec["data"].push_back(std::move(data));
  spec["scales"] = {
      {{"name", "x"},
       {"domain",
        {scenario.first_step.front(), std::max(scenario.first_step.back(), scenario.first_step.front() + 1)}},
       {"range", "width"}},
      {{"name", "y"},
       {"domain", {{"data", "points"}, {"field", "value"}}},
       {"range", "height"},
       {"zero", true},
       {"nice", true}}};
  Json y = vega_axis("y", "left", "");
  y.update({{"title", {{"signal", "ytitle"}}}, {"tickCount", 5}});
  Json x = vega_axis("x", "bottom", "step");
  x.update({{"grid", false}, {"format", "d"}, {"tickCount", 8}});
  spec["axes"] = {std::move(x), std::move(y)};
  spec["marks"].push_back(
      {{"type", "group"},
       {"from", {{"facet", {{"name", "of_policy"}, {"data", "points"}, {"groupby", "policy"}}}}},
       {"marks", {line_mark("of_policy")}}});
  return chart;
}

std::optional<Chart> classes_chart(const ReportScenario& scenario, double most_us) {
  std::vector<ClassBar> bars;
  for (const ReportPolicy& policy : scenario.policies) {
    if (!policy.class_us.empty()) bars.push_back({policy.name, policy.class_us});
  }
  if (bars.empty()) return std::nullopt;
  const auto& main = scenario.policies[scenario.main_policy()];
  Chart chart = class_bars_chart(bars, most_us);
  chart.title = "All-to-All and what else takes time";
  chart.note =
      "Time on the critical path by kind of operation. What runs beside something longer is not on it: "
      "overlap hides "
      "it.";
  chart.description = fmt::format("Stacked bars of {} policies; under {}, {} of the time is All-to-All.",
                                  bars.size(), main.name, percent_text(main.exchange_share()));
  return chart;
}

std::optional<Chart> scaling_chart(const ReplayDocument& document, const Palette& palette) {
  if (document.scaling.empty()) return std::nullopt;
  std::vector<ScalePoint> points;
  Chart chart{
      .title = "Scaling",
      .note =
          "Total time over the number of ranks. Both axes are logarithmic: time that is divided by the "
          "ranks is a straight line downwards.",
      .table = {.columns = {"policy", "scenario", "ranks", "total time"}, .num_names = 2}};
  std::set<std::string> names;
  for (const ReportScalingPoint& point : document.scaling) {
    points.push_back({.name = point.policy,
                      .colour = palette.colour(point.policy),
                      .line = palette.line(point.policy),
                      .ranks = static_cast<double>(point.ranks),
                      .us = point.total_us,
                      .note = point.scenario});
    if (names.insert(point.policy).second) {
      chart.legend.push_back({point.policy, palette.colour(point.policy), palette.line(point.policy)});
    }
    chart.table.rows.push_back(
        {{point.policy}, {point.scenario}, {fmt::format("{}", point.ranks)}, {format_us(point.total_us)}});
  }
  std::ranges::stable_sort(points, {}, &ScalePoint::ranks);
  chart.description =
      fmt::format("Lines of the total time of {} policies over the number of ranks.", names.size());
  chart.spec = scaling_spec(points);
  return chart;
}

}  // namespace flex
