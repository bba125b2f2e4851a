#include <fmt/format.h>

#include <algorithm>

#include "base/figures.h"
#include "traces/report/bars_chart.h"
#include "traces/report/report_section.h"

namespace flex {
namespace {

/// Plans of one size that bars are drawn for; the table has all.
constexpr std::size_t kMostBars = 24;

HtmlTable summary_of(const SimulateDocument& document) {
  HtmlTable table{.columns = {"plans", "ranks", "time", "band", "memory", "on the device", "over Fairseq's"}};
  for (std::size_t s = 0; s < document.sizes.size(); ++s) {
    const ReportSize& size = document.sizes[s];
    for (std::size_t p = 0; p < size.predictions.size(); ++p) {
      const ReportPrediction& one = size.predictions[p];
      const std::string at = fmt::format("/sizes/{}/plans/{}", s, p);
      table.rows.push_back(
          {{one.plans},
           figure_cell(fmt::format("{}", size.ranks), fmt::format("/sizes/{}/ranks", s), size.ranks),
           figure_cell(format_us(one.total_us), at + "/total_us", one.total_us),
           figure_cell("± " + format_us(one.error_us), at + "/error_us", one.error_us),
           one.memory_bytes ? figure_cell(format_bytes(static_cast<double>(*one.memory_bytes)),
                                          at + "/memory_bytes", *one.memory_bytes)
                            : HtmlCell{"–"},
           {!one.fits   ? "not known"
            : *one.fits ? "fits"
                        : "too much"},
           one.speedup ? figure_cell(factor_text(one.speedup), at + "/speedup", *one.speedup)
                       : HtmlCell{"–"}});
    }
  }
  return table;
}

std::string name_of(const SimulateDocument& document, const ReportSize& size, const ReportPrediction& one) {
  return document.sizes.size() > 1 ? fmt::format("{} ranks: {}", size.ranks, one.plans) : one.plans;
}

/// Of one size the fastest plans; of several the best of each.
std::vector<std::pair<const ReportSize*, const ReportPrediction*>> shown(const SimulateDocument& document) {
  std::vector<std::pair<const ReportSize*, const ReportPrediction*>> rows;
  if (document.sizes.size() > 1) {
    for (const ReportSize& size : document.sizes) rows.emplace_back(&size, &size.predictions[size.best()]);
    return rows;
  }
  const ReportSize& size = document.sizes.front();
  for (const ReportPrediction& one : size.predictions) rows.emplace_back(&size, &one);
  std::ranges::stable_sort(rows, {}, [](const auto& row) { return row.second->total_us; });
  rows.resize(std::min(rows.size(), kMostBars));
  return rows;
}

Chart times_chart(const SimulateDocument& document, const Palette& palette) {
  std::vector<Bar> bars;
  double most_us = 0;
  HtmlTable table{.columns = {"plans", "time", "band"}};
  for (const auto& [size, one] : shown(document)) {
    const std::string name = name_of(document, *size, *one);
    bars.push_back({.name = name,
                    .colour = palette.colour(one->plans),
                    .us = one->total_us,
                    .error_us = one->error_us,
                    .note = one->fits.value_or(true) ? "" : "does not fit"});
    most_us = std::max(most_us, one->total_us + one->error_us);
    table.rows.push_back({{name}, {format_us(one->total_us)}, {"± " + format_us(one->error_us)}});
  }
  return {.title = document.sizes.size() > 1 ? "Best plan at each size" : "Predicted time of each plan",
          .note = fmt::format("With the error band of the model: 68% of measurements are to be within it.{}",
                              bars.size() == kMostBars ? " The fastest 24; the summary has all." : ""),
          .description = fmt::format("Bars of the predicted time of {} plans.", bars.size()),
          .spec = bars_spec(bars, most_us),
          .table = std::move(table)};
}

Chart classes_chart(const SimulateDocument& document) {
  std::vector<ClassBar> bars;
  double most_us = 0;
  for (const auto& [size, one] : shown(document)) {
    bars.push_back({name_of(document, *size, *one), one->class_us});
    most_us = std::max(most_us, one->total_us);
  }
  Chart chart = class_bars_chart(bars, most_us);
  chart.title = "All-to-All and what else takes time";
  chart.note =
      "Time on the critical path by kind of operation. What runs beside something longer is not on it.";
  chart.description = fmt::format("Stacked bars of {} plans.", bars.size());
  return chart;
}

Chart scale_chart(const SimulateDocument& document) {
  std::vector<ScalePoint> points;
  HtmlTable table{.columns = {"formulation", "ranks", "time", "band", "plans"}};
  for (const ReportSize& size : document.sizes) {
    const ReportPrediction& one = size.predictions[size.best()];
    points.push_back({.name = "best plan",
                      .colour = "var(--c0)",
                      .ranks = static_cast<double>(size.ranks),
                      .us = one.total_us,
                      .error_us = one.error_us,
                      .note = one.plans});
    table.rows.push_back({{"best plan"},
                          {fmt::format("{}", size.ranks)},
                          {format_us(one.total_us)},
                          {"± " + format_us(one.error_us)},
                          {one.plans}});
    if (!size.fairseq_us) continue;
    points.push_back({.name = "Fairseq's formulation",
                      .colour = "var(--ink2)",
                      .line = LegendEntry::Shape::kDashed,
                      .ranks = static_cast<double>(size.ranks),
                      .us = *size.fairseq_us});
    table.rows.push_back(
        {{"Fairseq's formulation"}, {fmt::format("{}", size.ranks)}, {format_us(*size.fairseq_us)}});
  }
  Chart chart{.title = "Scaling",
              .note =
                  "Time over the number of ranks with the tokens of a rank as they are: a level line is "
                  "perfect. Both "
                  "axes are logarithmic.",
              .description = fmt::format("Lines of the predicted time at {} sizes.", document.sizes.size()),
              .spec = scaling_spec(points),
              .legend = {{"best plan", "var(--c0)", LegendEntry::Shape::kLine}},
              .table = std::move(table)};
  if (document.sizes.front().fairseq_us) {
    chart.legend.push_back({"Fairseq's formulation", "var(--ink2)", LegendEntry::Shape::kDashed});
  }
  return chart;
}

std::vector<std::string> highlights_of(const SimulateDocument& document) {
  const ReportSize& size = document.sizes.back();
  const ReportPrediction& best = size.predictions[size.best()];
  double exchange_us = 0;
  for (const auto& [key, us] : best.class_us) exchange_us += key == "exchange" ? us : 0;
  std::vector<std::string> lines = {
      fmt::format("{} is the fastest plan on {} ranks: {} ± {}", best.plans, size.ranks,
                  format_us(best.total_us), format_us(best.error_us)),
      fmt::format("All-to-All is {} of its time",
                  percent_text(best.total_us > 0 ? exchange_us / best.total_us : 0))};
  std::string memory = "memory is not known";
  if (best.memory_bytes)
    memory = fmt::format("a rank needs {}", format_bytes(static_cast<double>(*best.memory_bytes)));
  if (best.speedup) memory += fmt::format("; {} as fast as Fairseq's formulation", factor_text(best.speedup));
  lines.push_back(memory);
  return lines;
}

}  // namespace

ReportSection simulate_section(const SimulateDocument& document, const Palette& palette) {
  const ReportSize& first = document.sizes.front();
  const ReportSize& last = document.sizes.back();
  ReportSection section{
      .kind = "Prediction",
      .headline =
          fmt::format("A layer on {} of {}{}, predicted.",
                      document.sizes.size() > 1 ? fmt::format("{} to {} ranks", first.ranks, last.ranks)
                                                : fmt::format("{} ranks", first.ranks),
                      document.cluster, document.pass.empty() ? "" : fmt::format(", {} pass", document.pass)),
      .summary = summary_of(document),
      .highlights = highlights_of(document)};
  if (!document.calibration.empty()) {
    section.notes.push_back(fmt::format("Parameters of the model: {}{}.", document.calibration,
                                        document.fitted ? "" : " (not fitted: the band is a guess)"));
  }
  section.rows.push_back({.captions = {""}, .charts = {times_chart(document, palette)}});
  if (document.sizes.size() > 1) {
    section.rows.push_back({.captions = {""}, .charts = {scale_chart(document)}});
  }
  if (!last.predictions.front().class_us.empty()) {
    section.rows.push_back({.captions = {""}, .charts = {classes_chart(document)}});
  }
  return section;
}

}  // namespace flex
