#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "traces/report/replay_charts.h"

namespace flex {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kCapacityHeight = 110;
constexpr int kGap = 14;
constexpr int kStripHeight = 24;

/// Points of a layer that have the same plan.
struct Segment {
  std::size_t layer = 0;
  std::size_t policy = 0;
  std::int64_t from = 0;
  std::int64_t to = 0;  ///< first step behind
  std::string plan;
};

class Steps {
 public:
  explicit Steps(const ReportScenario& scenario) : scenario_(scenario) {}
  [[nodiscard]] std::int64_t begin(std::size_t point) const { return scenario_.first_step[point]; }
  [[nodiscard]] std::int64_t end(std::size_t point) const {
    return point + 1 < scenario_.first_step.size() ? scenario_.first_step[point + 1]
                                                   : scenario_.first_step[point] + scenario_.steps_per_point;
  }
  [[nodiscard]] std::size_t count() const { return scenario_.first_step.size(); }

 private:
  const ReportScenario& scenario_;
};

void add_segments(const ReportScenario& scenario, std::size_t policy, std::size_t layer,
                  std::vector<Segment>& segments) {
  const ReportPolicy& of = scenario.policies[policy];
  const Steps steps(scenario);
  const auto& plans = of.plan[layer];
  for (std::size_t i = 0; i < std::min(plans.size(), steps.count()); ++i) {
    if (!plans[i] || *plans[i] < 0 || *plans[i] >= static_cast<double>(of.plans.size())) continue;
    const std::string& plan = of.plans[static_cast<std::size_t>(*plans[i])];
    const bool goes_on = !segments.empty() && segments.back().policy == policy &&
                         segments.back().layer == layer && segments.back().plan == plan &&
                         segments.back().to == steps.begin(i);
    if (goes_on) {
      segments.back().to = steps.end(i);
    } else {
      segments.push_back({layer, policy, steps.begin(i), steps.end(i), plan});
    }
  }
}

std::vector<Segment> segments_of(const ReportScenario& scenario) {
  std::vector<Segment> segments;
  for (std::size_t policy = 0; policy < scenario.policies.size(); ++policy) {
    for (std::size_t layer = 0; layer < scenario.policies[policy].plan.size(); ++layer) {
      add_segments(scenario, policy, layer, segments);
    }
  }
  return segments;
}

Json capacity_rows(const ReportScenario& scenario) {
  Json rows = Json::array();
  const Steps steps(scenario);
  const auto add = [&](const ByLayer<double>& layers, const char* kind, const char* colour, Json dash) {
    for (std::size_t layer = 0; layer < layers.size(); ++layer) {
      const std::size_t count = std::min(layers[layer].size(), steps.count());
      const auto add_point = [&](std::int64_t step, const std::optional<double>& value) {
        rows.push_back({{"layer", layer},
                        {"kind", kind},
                        {"step", step},
                        {"value", value ? Json(*value) : Json()},
                        {"colour", colour},
                        {"dash", dash}});
      };
      for (std::size_t i = 0; i < count; ++i) add_point(steps.begin(i), layers[layer][i]);
      if (count > 0) add_point(steps.end(count - 1), layers[layer][count - 1]);
    }
  };
  add(scenario.needed_capacity, "needed", "var(--ink)", Json::array({1, 0}));
  add(scenario.capacity, "bound", "var(--accent)", Json::array({5, 3}));
  return rows;
}

Json strip_rows(const ReportScenario& scenario, const Palette& palette,
                const std::vector<Segment>& segments) {
  Json rows = Json::array();
  for (const Segment& one : segments) {
    const std::string& policy = scenario.policies[one.policy].name;
    rows.push_back(
        {{"layer", one.layer},
         {"policy", policy},
         {"from", one.from},
         {"to", one.to},
         {"plan", one.plan},
         {"colour", palette.colour(one.plan)},
         {"text_colour", palette.text_colour(one.plan)},
         {"tip", fmt::format("{}: {} in steps {} to {}", policy, one.plan, one.from, one.to - 1)}});
  }
  return rows;
}

HtmlTable plans_table(const ReportScenario& scenario, const std::vector<Segment>& segments) {
  HtmlTable table{.caption = picked_text(segments.size(), 200),
                  .columns = {"policy", "layer", "from step", "to step", "plans"}};
  for (const std::size_t i : picked_rows(segments.size(), 200)) {
    const Segment& one = segments[i];
    table.rows.push_back({{scenario.policies[one.policy].name},
                          {fmt::format("{}", one.layer)},
                          {fmt::format("{}", one.from)},
                          {fmt::format("{}", one.to - 1)},
                          {one.plan}});
  }
  return table;
}

Json policy_names(const ReportScenario& scenario) {
  Json names = Json::array();
  for (const ReportPolicy& policy : scenario.policies) {
    if (!policy.plan.empty()) names.push_back(policy.name);
  }
  return names;
}

std::size_t num_layers(const ReportScenario& scenario) {
  std::size_t layers = std::max(scenario.needed_capacity.size(), scenario.capacity.size());
  for (const ReportPolicy& policy : scenario.policies) layers = std::max(layers, policy.plan.size());
  return layers;
}

Json capacity_line() {
  return vega_mark("line", "of_kind",
                   {{"x", {{"scale", "x"}, {"field", "step"}}},
                    {"y", {{"scale", "capacity"}, {"field", "value"}}},
                    {"defined", {{"signal", "isValid(datum.value)"}}},
                    {"interpolate", {{"value", "step-after"}}},
                    {"stroke", {{"field", "colour"}}},
                    {"strokeDash", {{"field", "dash"}}},
                    {"strokeWidth", {{"value", 1.75}}}});
}

Json strip_marks() {
  const Json middle = {{"scale", "strips"}, {"field", "policy"}, {"band", 0.5}};
  const Json left = {{"scale", "x"}, {"field", "from"}};
  return {
      vega_mark("rect", "strips",
                {{"x", left},
                 {"x2", {{"scale", "x"}, {"field", "to"}}},
                 {"y", {{"scale", "strips"}, {"field", "policy"}}},
                 {"height", {{"scale", "strips"}, {"band", 1}}},
                 {"fill", {{"field", "colour"}}},
                 {"tooltip", {{"field", "tip"}}}}),
      vega_mark(
          "text", "strips",
          {{"x", left},
           {"dx", {{"value", 4}}},
           {"y", middle},
           {"baseline", {{"value", "middle"}}},
           {"fill", {{"field", "text_colour"}}},
           {"text",
            {{"signal",
              "scale('x', datum.to) - scale('x', datum.from) > 6.5 * length(datum.plan) + 8 ? datum.plan : "
              "''"}}}})};
}

Json plans_spec(const ReportScenario& scenario, const Palette& palette,
                const std::vector<Segment>& segments) {
  Json names = policy_names(scenario);
  const int strips_top = kCapacityHeight + kGap;
  const int height = strips_top + kStripHeight * static_cast<int>(names.size());
  const Steps steps(scenario);
  Json spec = vega_spec(height);
  spec["signals"].push_back({{"name", "layer"}, {"value", 0}});
  const Json of_layer = {{{"type", "filter"}, {"expr", "datum.layer === layer"}}};
  Json capacity = vega_data("capacity", capacity_rows(scenario));
  capacity["transform"] = of_layer;
  Json strips = vega_data("strips", strip_rows(scenario, palette, segments));
  strips["transform"] = of_layer;
  spec["data"] = {std::move(capacity), std::move(strips)};
  spec["scales"] = {
      {{"name", "x"}, {"domain", {steps.begin(0), steps.end(steps.count() - 1)}}, {"range", "width"}},
      {{"name", "capacity"},
       {"domain", {{"data", "capacity"}, {"field", "value"}}},
       {"range", {kCapacityHeight, 4}},
       {"zero", true},
       {"nice", true}},
      {{"name", "strips"},
       {"type", "band"},
       {"domain", std::move(names)},
       {"range", {strips_top, height}},
       {"padding", 0.15}}};
  Json x = vega_axis("x", "bottom", "step");
  x.update({{"grid", false}, {"format", "d"}, {"tickCount", 8}});
  Json y = vega_axis("capacity", "left", "capacity");
  y.update({{"tickCount", 4}, {"titleY", kCapacityHeight / 2}, {"titleAnchor", "middle"}});
  Json policies = vega_axis("strips", "left", "");
  policies.update(
      {{"grid", false}, {"ticks", false}, {"domain", false}, {"labelLimit", 190}, {"labelOverlap", false}});
  spec["axes"] = {std::move(x), std::move(y), std::move(policies)};
  spec["marks"] = strip_marks();
  spec["marks"].push_back(
      {{"type", "group"},
       {"from", {{"facet", {{"name", "of_kind"}, {"data", "capacity"}, {"groupby", "kind"}}}}},
       {"marks", {capacity_line()}}});
  return spec;
}

}  // namespace

std::optional<Chart> plans_chart(const ReportScenario& scenario, const Palette& palette) {
  const std::size_t layers = num_layers(scenario);
  if (scenario.first_step.empty() || layers == 0) return std::nullopt;
  const std::vector<Segment> segments = segments_of(scenario);
  Chart chart{
      .title = "Plans and capacity over time",
      .note =
          "Above: slots that the fullest expert needs from one rank, and those that were bound (what is "
          "beyond is dropped). Below: the plan that each policy ran.",
      .description = fmt::format("Needed capacity and the plans of {} policies over {} points of time.",
                                 scenario.policies.size(), scenario.first_step.size()),
      .spec = plans_spec(scenario, palette, segments),
      .legend = {{"needed capacity", "var(--ink)", LegendEntry::Shape::kLine},
                 {"bound capacity", "var(--accent)", LegendEntry::Shape::kDashed}},
      .table = plans_table(scenario, segments)};
  std::set<std::string> plans;
  bool has_other = false;
  for (const Segment& one : segments) {
    if (!plans.insert(one.plan).second) continue;
    const std::string colour = palette.colour(one.plan);
    has_other = has_other || colour == "var(--other)";
    if (colour != "var(--other)") chart.legend.push_back({one.plan, colour});
  }
  if (has_other) chart.legend.push_back({"further plans", "var(--other)"});
  if (layers > 1) {
    chart.choice = ChartChoice{"layer", "layer", {}};
    for (std::size_t layer = 0; layer < layers; ++layer)
      chart.choice->options.push_back(fmt::format("{}", layer));
  }
  if (scenario.steps_per_point > 1) {
    chart.note +=
        fmt::format(" Each point stands for {} steps: the largest capacity in them, the plan of the first.",
                    scenario.steps_per_point);
  }
  return chart;
}

}  // namespace flex
