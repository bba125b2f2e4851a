#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "traces/report/replay_charts.h"

namespace flex {
namespace {

using Json = nlohmann::ordered_json;

/// Load over the mean where the next colour begins: the same in every report, so that pictures can be
/// compared.
constexpr std::array kThresholds = {0.25, 0.5, 0.8, 1.25, 2.0, 4.0, 8.0};

std::vector<LegendEntry> heat_legend() {
  std::vector<LegendEntry> legend;
  for (std::size_t i = 0; i <= kThresholds.size(); ++i) {
    const std::string label = i == 0 ? fmt::format("below {}× the mean", kThresholds.front())
                              : i == kThresholds.size()
                                  ? fmt::format("{}× and more", kThresholds.back())
                                  : fmt::format("{}–{}", kThresholds[i - 1], kThresholds[i]);
    legend.push_back({label, fmt::format("var(--heat-{})", i)});
  }
  return legend;
}

std::size_t cells_of(const ReportLoad& load, std::size_t layer) {
  std::size_t cells = 0;
  for (const std::vector<double>& bin : load.share[layer]) cells = std::max(cells, bin.size());
  return cells;
}

/// Load over the mean of a cell; the last one of a layer may hold fewer experts than the others.
class MeanLoad {
 public:
  MeanLoad(const ReportLoad& load, const std::vector<std::int64_t>& experts, std::size_t layer)
      : per_cell_(static_cast<double>(load.experts_per_cell)) {
    const auto of = static_cast<std::size_t>(load.layers[layer]);
    num_experts_ = of < experts.size() && experts[of] > 0
                       ? static_cast<double>(experts[of])
                       : per_cell_ * static_cast<double>(cells_of(load, layer));
  }
  [[nodiscard]] double over_mean(double share, std::size_t cell) const {
    const double left = num_experts_ - per_cell_ * static_cast<double>(cell);
    return share * num_experts_ / std::clamp(left, 1.0, per_cell_);
  }

 private:
  double per_cell_;
  double num_experts_ = 0;
};

Json cell_rows(const ReportLoad& load, const std::vector<std::int64_t>& experts) {
  Json rows = Json::array();
  for (std::size_t layer = 0; layer < load.layers.size(); ++layer) {
    const MeanLoad mean(load, experts, layer);
    for (std::size_t bin = 0; bin < std::min(load.share[layer].size(), load.first_step.size()); ++bin) {
      const std::int64_t from = load.first_step[bin];
      const std::int64_t to =
          bin + 1 < load.first_step.size() ? load.first_step[bin + 1] : from + load.steps_per_bin;
      for (std::size_t cell = 0; cell < load.share[layer][bin].size(); ++cell) {
        const double over = mean.over_mean(load.share[layer][bin][cell], cell);
        const std::int64_t expert = static_cast<std::int64_t>(cell) * load.experts_per_cell;
        rows.push_back(
            {layer, from, to, expert, expert + load.experts_per_cell, std::round(over * 1e4) / 1e4});
      }
    }
  }
  return rows;
}

// The mean over all bins, and the fullest one.
HtmlTable load_table(const ReportLoad& load, const std::vector<std::int64_t>& experts) {
  HtmlTable table{.columns = {"layer", "experts", "mean load", "largest load", "in step"}};
  for (std::size_t layer = 0; layer < load.layers.size(); ++layer) {
    const MeanLoad mean(load, experts, layer);
    for (std::size_t cell = 0; cell < cells_of(load, layer); ++cell) {
      double sum = 0;
      double largest = -1;
      std::int64_t step = 0;
      std::size_t bins = 0;
      for (std::size_t bin = 0; bin < std::min(load.share[layer].size(), load.first_step.size()); ++bin) {
        if (cell >= load.share[layer][bin].size()) continue;
        const double over = mean.over_mean(load.share[layer][bin][cell], cell);
        sum += over;
        ++bins;
        if (over > largest) std::tie(largest, step) = std::pair(over, load.first_step[bin]);
      }
      const auto expert = static_cast<std::int64_t>(cell) * load.experts_per_cell;
      table.rows.push_back(
          {{fmt::format("{}", load.layers[layer])},
           {load.experts_per_cell == 1 ? fmt::format("{}", expert)
                                       : fmt::format("{}–{}", expert, expert + load.experts_per_cell - 1)},
           {fmt::format("{:.2f}×", bins > 0 ? sum / static_cast<double>(bins) : 0)},
           {fmt::format("{:.2f}×", std::max(largest, 0.0))},
           {fmt::format("{}", step)}});
    }
  }
  return table;
}

}  // namespace

std::optional<Chart> load_chart(const ReportScenario& scenario, const std::vector<std::int64_t>& experts) {
  if (!scenario.load) return std::nullopt;
  const ReportLoad& load = *scenario.load;
  std::size_t most_cells = 0;
  for (std::size_t layer = 0; layer < load.layers.size(); ++layer)
    most_cells = std::max(most_cells, cells_of(load, layer));
  if (most_cells == 0 || load.first_step.empty()) return std::nullopt;
  Json rows = cell_rows(load, experts);
  Chart chart{
      .title = "Load of the experts",
      .note =
          "How many choices each expert gets, over the mean expert of its layer: an even load is the colour "
          "of 0.8–1.25.",
      .description = fmt::format("A map of the load of {} cells of experts over {} bins of steps.",
                                 most_cells, load.first_step.size()),
      .spec = vega_spec(std::clamp(8 * static_cast<int>(most_cells), 120, 320)),
      .legend = heat_legend(),
      .table = load_table(load, experts)};
  if (load.layers.size() > 1) {
    chart.choice = ChartChoice{"layer", "layer", {}};
    for (const std::int64_t layer : load.layers) chart.choice->options.push_back(fmt::format("{}", layer));
  }
  Json colours = Json::array();
  for (std::size_t i = 0; i <= kThresholds.size(); ++i) colours.push_back(fmt::format("var(--heat-{})", i));
  Json& spec = chart.spec;
  spec["signals"].push_back({{"name", "layer"}, {"value", 0}});
  Json cells = vega_data("cells", std::move(rows));
  // Rows are short lists, not objects with names: there may be 65,536 of them.
  cells["transform"] = {{{"type", "filter"}, {"expr", "datum[0] === layer"}}};
  spec["data"].push_back(std::move(cells));
  spec["scales"] = {
      {{"name", "x"},
       {"domain", {load.first_step.front(), load.first_step.back() + load.steps_per_bin}},
       {"range", "width"}},
      {{"name", "y"}, {"domain", {{"data", "cells"}, {"field", "4"}}}, {"range", "height"}, {"zero", true}},
      {{"name", "heat"}, {"type", "threshold"}, {"domain", kThresholds}, {"range", std::move(colours)}}};
  Json x = vega_axis("x", "bottom", "step");
  x.update({{"grid", false}, {"format", "d"}, {"tickCount", 8}});
  Json y = vega_axis("y", "left", "expert");
  y.update({{"grid", false}, {"format", "d"}, {"tickMinStep", 1}});
  spec["axes"] = {std::move(x), std::move(y)};
  const auto at = [](const char* scale, const char* field) {
    return Json{{"scale", scale}, {"field", field}};
  };
  spec["marks"].push_back(
      vega_mark("rect", "cells",
                {{"x", at("x", "1")},
                 {"x2", at("x", "2")},
                 {"y", at("y", "3")},
                 {"y2", at("y", "4")},
                 {"fill", at("heat", "5")},
                 {"tooltip",
                  {{"signal",
                    "'experts from ' + datum[3] + ', from step ' + datum[1] + ': ' + datum[5] "
                    "+ ' times the mean'"}}}}));
  return chart;
}

}  // namespace flex
