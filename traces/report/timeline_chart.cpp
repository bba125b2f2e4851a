#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/figures.h"
#include "costmodel/prediction.h"
#include "costmodel/schedule.h"
#include "traces/report/replay_charts.h"

namespace flex {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kRowHeight = 24;
constexpr std::size_t kMostRows = 400;  // of the table

// `dispatch/all_to_all#1of2` is of all_to_all's class. What this program does not know is agreement's grey.
std::string class_of_span(std::string_view label) {
  label = label.substr(label.find('/') == std::string_view::npos ? 0 : label.find('/') + 1);
  label = label.substr(0, label.find('#'));
  const auto kind = parse_operation_kind(label);
  return std::string(name(kind ? class_of(*kind) : OperationClass::kHost));
}

std::string row_of(const ReportTimeline& timeline, const ReportSpan& span) {
  if (timeline.num_ranks <= 1) return span.stream;
  return fmt::format("rank {} {}", span.rank, span.stream);
}

// Ranks in order, and of each the host above the streams.
Json row_names(const ReportTimeline& timeline) {
  const auto order = [](const std::string& stream) {
    return stream == "host" ? 0 : stream == "compute" ? 1 : stream == "communication" ? 2 : 3;
  };
  std::set<std::tuple<int, int, std::string>> rows;
  for (const ReportSpan& span : timeline.spans) {
    rows.insert({span.rank, order(span.stream), row_of(timeline, span)});
  }
  Json names = Json::array();
  for (const auto& row : rows) names.push_back(std::get<2>(row));
  return names;
}

Json span_rows(const ReportTimeline& timeline, const TimeUnit& unit) {
  Json rows = Json::array();
  for (const ReportSpan& span : timeline.spans) {
    rows.push_back(
        {{"row", row_of(timeline, span)},
         {"from", span.start_us / unit.us},
         {"to", span.end_us / unit.us},
         {"colour", class_colour(class_of_span(span.name))},
         {"chunk", span.chunk ? fmt::format("{}", *span.chunk + 1) : ""},
         {"label", span.name.substr(0, span.name.find('#'))},
         {"tip", fmt::format("{} {}, {} to {} ({})", span.pass, span.name, format_us(span.start_us),
                             format_us(span.end_us), format_us(span.end_us - span.start_us))}});
  }
  return rows;
}

HtmlTable spans_table(const ReportTimeline& timeline) {
  HtmlTable table{.caption = picked_text(timeline.spans.size(), kMostRows),
                  .columns = {"operation", "pass", "stream", "rank", "start", "end", "duration"},
                  .num_names = 3};
  for (const std::size_t i : picked_rows(timeline.spans.size(), kMostRows)) {
    const ReportSpan& span = timeline.spans[i];
    table.rows.push_back({{span.name},
                          {span.pass},
                          {span.stream},
                          {fmt::format("{}", span.rank)},
                          {format_us(span.start_us)},
                          {format_us(span.end_us)},
                          {format_us(span.end_us - span.start_us)}});
  }
  return table;
}

Json span_marks() {
  return {
      vega_mark(
          "rect", "spans",
          {{"x", {{"scale", "x"}, {"field", "from"}}},
           {"x2", {{"scale", "x"}, {"field", "to"}}},
           {"y", {{"scale", "y"}, {"field", "row"}}},
           {"height", {{"scale", "y"}, {"band", 1}}},
           {"fill", {{"field", "colour"}}},
           {"stroke", {{"value", "var(--paper)"}}},
           {"strokeWidth", {{"signal", "scale('x', datum.to) - scale('x', datum.from) > 3 ? 0.75 : 0"}}},
           {"tooltip", {{"field", "tip"}}}}),
      vega_mark(
          "text", "spans",
          {{"x", {{"scale", "x"}, {"signal", "(datum.from + datum.to) / 2"}}},
           {"y", {{"scale", "y"}, {"field", "row"}, {"band", 0.5}}},
           {"align", {{"value", "center"}}},
           {"baseline", {{"value", "middle"}}},
           {"fontSize", {{"value", 10}}},
           {"fill", {{"value", "var(--on-mark)"}}},
           {"text",
            {{"signal",
              "scale('x', datum.to) - scale('x', datum.from) > 5.7 * (length(datum.label) + "
              "length(datum.chunk)) + "
              "14 ? datum.label + (datum.chunk ? ' ' + datum.chunk : '') : scale('x', datum.to) - scale('x', "
              "datum.from) > 12 ? datum.chunk : ''"}}}})};
}

}  // namespace

std::optional<Chart> timeline_chart(const ReportScenario& scenario) {
  if (!scenario.timeline || scenario.timeline->spans.empty()) return std::nullopt;
  const ReportTimeline& timeline = *scenario.timeline;
  double end_us = timeline.total_us;
  double backward_us = -1;
  std::set<std::string> classes;
  for (const ReportSpan& span : timeline.spans) {
    end_us = std::max(end_us, span.end_us);
    if (span.pass == "backward")
      backward_us = backward_us < 0 ? span.start_us : std::min(backward_us, span.start_us);
    classes.insert(class_of_span(span.name));
  }
  const TimeUnit unit = time_unit(end_us);
  Json names = row_names(timeline);
  const std::string ranks = timeline.num_ranks <= 1
                                ? fmt::format("one rank, which stands for all {}", timeline.world)
                                : fmt::format("{} of {} ranks", timeline.num_ranks, timeline.world);
  Chart chart{.title = fmt::format("Timeline of step {}, layer {}", timeline.step, timeline.layer),
              .note = fmt::format(
                  "One iteration under {} with plan {}: {}, {}. Numbers are chunks of the pipeline.{}",
                  timeline.policy, timeline.plans, format_us(timeline.total_us), ranks,
                  backward_us >= 0 ? " The backward pass begins at the dashed line." : ""),
              .description = fmt::format("Operations of step {}, layer {} on {} streams.", timeline.step,
                                         timeline.layer, names.size()),
              .spec = vega_spec(kRowHeight * static_cast<int>(names.size())),
              .legend = class_legend({classes.begin(), classes.end()}),
              .table = spans_table(timeline)};
  Json& spec = chart.spec;
  spec["data"].push_back(vega_data("spans", span_rows(timeline, unit)));
  spec["scales"] = {{{"name", "x"}, {"domain", {0, std::max(end_us / unit.us, 1e-9)}}, {"range", "width"}},
                    {{"name", "y"},
                     {"type", "band"},
                     {"domain", std::move(names)},
                     {"range", "height"},
                     {"padding", 0.12}}};
  Json x = vega_axis("x", "bottom", fmt::format("time in {}", unit.name));
  x["tickCount"] = 8;
  Json y = vega_axis("y", "left", "");
  y.update(
      {{"grid", false}, {"ticks", false}, {"domain", false}, {"labelLimit", 190}, {"labelOverlap", false}});
  spec["axes"] = {std::move(x), std::move(y)};
  spec["marks"] = span_marks();
  if (backward_us >= 0) {
    spec["marks"].push_back({{"type", "rule"},
                             {"encode",
                              {{"update",
                                {{"x", {{"scale", "x"}, {"value", backward_us / unit.us}}},
                                 {"y", {{"value", 0}}},
                                 {"y2", {{"signal", "height"}}},
                                 {"stroke", {{"value", "var(--ink)"}}},
                                 {"strokeDash", {{"value", {4, 3}}}}}}}}});
  }
  return chart;
}

}  // namespace flex
