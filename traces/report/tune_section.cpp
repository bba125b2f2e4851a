#include <fmt/format.h>

#include <algorithm>

#include "base/figures.h"
#include "traces/report/bars_chart.h"
#include "traces/report/report_section.h"

namespace flex {
namespace {

/// Layers by what tells them apart; what they have in common is said once.
class LayerTitles {
 public:
  explicit LayerTitles(const std::vector<ReportLayer>& layers) {
    const std::vector<std::string>& first = layers.front().sizes;
    for (std::size_t i = 0; i < first.size(); ++i) {
      common_.push_back(std::ranges::all_of(layers, [&](const ReportLayer& layer) {
        return i < layer.sizes.size() && layer.sizes[i] == first[i];
      }));
      if (common_.back()) common_text_ += (common_text_.empty() ? "" : ", ") + first[i];
    }
  }

  [[nodiscard]] std::string of(const ReportLayer& layer) const {
    std::string title;
    for (std::size_t i = 0; i < layer.sizes.size(); ++i) {
      if (i < common_.size() && common_[i]) continue;
      title += (title.empty() ? "" : ", ") + layer.sizes[i];
    }
    if (layer.capacity) title += fmt::format("{}C {}", title.empty() ? "" : ", ", *layer.capacity);
    return title.empty() ? "the layer" : title;
  }

  [[nodiscard]] const std::string& common() const { return common_text_; }

 private:
  std::vector<bool> common_;
  std::string common_text_;
};

HtmlTable summary_of(const TuneDocument& document, const LayerTitles& titles) {
  HtmlTable table{.columns = {"layer", "strategy", "best plan", "time", "default", "gain", "regret",
                              "evaluations", "candidates", "search"},
                  .num_names = 3};
  for (std::size_t l = 0; l < document.layers.size(); ++l) {
    const ReportLayer& layer = document.layers[l];
    for (std::size_t s = 0; s < layer.searches.size(); ++s) {
      const ReportSearch& search = layer.searches[s];
      const std::string at = fmt::format("/layers/{}", l);
      const std::string search_at = fmt::format("{}/strategies/{}", at, s);
      table.rows.push_back(
          {{titles.of(layer)},
           {search.strategy},
           {search.plans()},
           figure_cell(format_us(search.total_us), search_at + "/total_us", search.total_us),
           figure_cell(format_us(search.default_us), search_at + "/default_us", search.default_us),
           figure_cell(percent_text(search.gain, true), search_at + "/gain", search.gain),
           search.regret ? figure_cell(percent_text(search.regret), search_at + "/regret", *search.regret)
                         : HtmlCell{"–"},
           figure_cell(fmt::format("{}", search.evaluations), search_at + "/evaluations", search.evaluations),
           figure_cell(fmt::format("{}", layer.candidates), at + "/candidates", layer.candidates),
           {search.complete ? "complete" : "cut short"}});
    }
  }
  return table;
}

// The default plan and the tuned one of each layer.
Chart gains_chart(const TuneDocument& document, const LayerTitles& titles, const Palette& palette) {
  std::vector<Bar> bars;
  double most_us = 0;
  HtmlTable table{.columns = {"layer", "plan", "time"}, .num_names = 2};
  for (const ReportLayer& layer : document.layers) {
    const ReportSearch& best = layer.best();
    const std::string title = titles.of(layer);
    bars.push_back({.name = title,
                    .colour = palette.colour(best.plans()),
                    .us = best.total_us,
                    .note = fmt::format("{} ({})", best.plans(), percent_text(best.gain, true))});
    bars.push_back({.name = title + ", default", .colour = "var(--other)", .us = best.default_us});
    most_us = std::max({most_us, best.total_us, best.default_us});
    table.rows.push_back({{title}, {best.plans()}, {format_us(best.total_us)}});
    table.rows.push_back({{title}, {"default"}, {format_us(best.default_us)}});
  }
  return {.title = "Tuned and default time",
          .note = "Of each layer the best plan that was found, and the default plan.",
          .description =
              fmt::format("Bars of the tuned and the default time of {} layer(s).", document.layers.size()),
          .spec = bars_spec(bars, most_us),
          .table = std::move(table)};
}

// How far each search came with how many evaluations.
Chart searches_chart(const TuneDocument& document, const LayerTitles& titles) {
  using Json = nlohmann::ordered_json;
  Json rows = Json::array();
  HtmlTable table{.columns = {"layer", "strategy", "evaluations", "of all plans", "behind the best found"},
                  .num_names = 2};
  for (const ReportLayer& layer : document.layers) {
    const double best_us = layer.best().total_us;
    for (const ReportSearch& search : layer.searches) {
      const double share = layer.candidates > 0 ? static_cast<double>(search.evaluations) /
                                                      static_cast<double>(layer.candidates)
                                                : 0;
      const double behind = best_us > 0 ? search.total_us / best_us - 1 : 0;
      const std::string text = fmt::format("{} of {} ({} behind the best)", search.evaluations,
                                           layer.candidates, percent_text(behind));
      rows.push_back({{"name", fmt::format("{}: {}", search.strategy, titles.of(layer))},
                      {"evaluations", search.evaluations},
                      {"candidates", layer.candidates},
                      {"text", text}});
      table.rows.push_back({{titles.of(layer)},
                            {search.strategy},
                            {fmt::format("{}", search.evaluations)},
                            {percent_text(share)},
                            {percent_text(behind)}});
    }
  }
  std::int64_t most = 1;
  for (const Json& row : rows)
    most = std::max({most, row["candidates"].get<std::int64_t>(), row["evaluations"].get<std::int64_t>()});
  Chart chart{.title = "What each search cost",
              .note = "Evaluations (one plan in one pass) out of all that there are.",
              .description = fmt::format("Bars of the evaluations of {} searches.", rows.size()),
              .spec = vega_spec(26 * static_cast<int>(rows.size())),
              .legend = {{"evaluated", "var(--accent)"}, {"all candidates", "var(--faint)"}},
              .table = std::move(table)};
  Json& spec = chart.spec;
  spec["data"].push_back(vega_data("searches", std::move(rows)));
  spec["scales"] = {{{"name", "y"},
                     {"type", "band"},
                     {"domain", {{"data", "searches"}, {"field", "name"}}},
                     {"range", "height"},
                     {"padding", 0.28}},
                    {{"name", "x"}, {"domain", {0, static_cast<double>(most) * 1.4}}, {"range", "width"}}};
  Json x = vega_axis("x", "bottom", "evaluations");
  x.update({{"tickCount", 6}, {"tickMinStep", 1}, {"format", "d"}});
  Json y = vega_axis("y", "left", "");
  y.update(
      {{"grid", false}, {"ticks", false}, {"domain", false}, {"labelLimit", 260}, {"labelOverlap", false}});
  spec["axes"] = {std::move(x), std::move(y)};
  for (const auto& [field, colour] :
       {std::pair("candidates", "var(--faint)"), std::pair("evaluations", "var(--accent)")}) {
    spec["marks"].push_back(vega_mark("rect", "searches",
                                      {{"x", {{"scale", "x"}, {"value", 0}}},
                                       {"x2", {{"scale", "x"}, {"field", field}}},
                                       {"y", {{"scale", "y"}, {"field", "name"}}},
                                       {"height", {{"scale", "y"}, {"band", 1}}},
                                       {"fill", {{"value", colour}}}}));
  }
  spec["marks"].push_back(vega_mark(
      "text", "searches",
      {{"x", {{"scale", "x"}, {"signal", "max(datum.candidates, datum.evaluations)"}, {"offset", 6}}},
       {"y", {{"scale", "y"}, {"field", "name"}, {"band", 0.5}}},
       {"baseline", {{"value", "middle"}}},
       {"fill", {{"value", "var(--ink)"}}},
       {"text", {{"field", "text"}}}}));
  return chart;
}

std::vector<std::string> highlights_of(const TuneDocument& document, const LayerTitles& titles) {
  const auto gain = [](const ReportLayer& layer) { return layer.best().gain; };
  const auto most = std::ranges::max_element(document.layers, {}, gain);
  const ReportSearch& best = most->best();
  std::vector<std::string> lines = {
      fmt::format("{} is the best plan of layer {}: {}, {} over the default plan", best.plans(),
                  titles.of(*most), format_us(best.total_us), percent_text(best.gain, true))};
  std::int64_t evaluations = 0;
  std::int64_t candidates = 0;
  for (const ReportLayer& layer : document.layers) {
    candidates += layer.candidates;
    evaluations += layer.best().evaluations;
  }
  lines.push_back(fmt::format("the best searches evaluated {} of {} candidates in {} layer(s)", evaluations,
                              candidates, document.layers.size()));
  lines.push_back(document.best_static.empty()
                      ? fmt::format("{} strategies were run", document.layers.front().searches.size())
                      : fmt::format("one plan for all layers, {}, takes {}; tuned plans take {}",
                                    document.best_static, format_us(document.best_static_us),
                                    format_us(document.tuned_us)));
  return lines;
}

}  // namespace

ReportSection tune_section(const TuneDocument& document, const Palette& palette) {
  const LayerTitles titles(document.layers);
  ReportSection section{
      .kind = "Search",
      .headline = fmt::format("The fastest plans of {} layer(s), {}{}.", document.layers.size(), document.on,
                              document.pass.empty() ? "" : fmt::format(", {} pass", document.pass)),
      .summary = summary_of(document, titles),
      .highlights = highlights_of(document, titles)};
  if (!titles.common().empty()) section.notes.push_back(fmt::format("Every layer has {}.", titles.common()));
  if (document.interrupted) section.notes.emplace_back("The search was interrupted: layers may be missing.");
  if (!document.best_static.empty()) section.notes.push_back(section.highlights.back() + ".");
  section.rows.push_back({.captions = {""}, .charts = {gains_chart(document, titles, palette)}});
  section.rows.push_back({.captions = {""}, .charts = {searches_chart(document, titles)}});
  return section;
}

}  // namespace flex
