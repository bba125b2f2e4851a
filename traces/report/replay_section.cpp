#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "base/figures.h"
#include "traces/report/replay_charts.h"
#include "traces/report/report_section.h"

namespace flex {
namespace {

const ReportPolicy& main_policy(const ReportScenario& scenario) {
  return scenario.policies[scenario.main_policy()];
}

std::string place_of(const ReportScenario& scenario) {
  std::string place = scenario.world > 0 ? fmt::format("{} ranks", scenario.world) : "some ranks";
  if (!scenario.cluster.empty()) {
    place += scenario.nodes > 0 ? fmt::format(" on {} node(s) of {}", scenario.nodes, scenario.cluster)
                                : " of " + scenario.cluster;
  }
  return place;
}

std::string headline_of(const ReplayDocument& document) {
  const ReportScenario& base = document.scenarios.front();
  return fmt::format(
      "{} {}{} ({} steps, {} MoE layer(s){}) under {} policies, simulated on {}{}.",
      document.source.empty() ? "The routing of" : "The " + document.source + " routing of",
      document.trace.empty() ? "a trace" : document.trace,
      document.model.empty() || document.model == document.source ? ""
                                                                  : fmt::format(" of {}", document.model),
      document.steps, document.layers, document.hardware.empty() ? "" : ", from " + document.hardware,
      base.policies.size(), place_of(base),
      document.scenarios.size() > 1
          ? fmt::format(", beside {} other scenario(s)", document.scenarios.size() - 1)
          : "");
}

std::string caption_of(const ReportScenario& scenario) {
  std::string caption = fmt::format("{}: {}", scenario.name, place_of(scenario));
  const std::string changes = fmt::format("{}", fmt::join(scenario.changes, " "));
  if (changes != scenario.name && !changes.empty())
    caption += fmt::format(", {}", fmt::join(scenario.changes, ", "));
  if (!scenario.reshard.empty()) caption += fmt::format(", ranks laid out anew ({})", scenario.reshard);
  return caption;
}

std::vector<std::string> notes_of(const ReplayDocument& document) {
  std::vector<std::string> notes;
  if (!document.damage.empty())
    notes.push_back("The trace is damaged; what comes before was replayed: " + document.damage);
  for (const ReportScenario& scenario : document.scenarios) {
    if (document.scenarios.size() > 1 || !scenario.changes.empty() || !scenario.reshard.empty()) {
      notes.push_back(caption_of(scenario) + ".");
    }
  }
  for (const ReportScenario& scenario : document.scenarios) {
    for (const ReportPolicy& policy : scenario.policies) {
      if (policy.resolved.empty()) continue;
      notes.push_back(document.scenarios.size() > 1
                          ? fmt::format("{} of {} is {}.", policy.name, scenario.name, policy.resolved)
                          : fmt::format("{} is {}.", policy.name, policy.resolved));
    }
  }
  const ReportScenario& base = document.scenarios.front();
  if (!base.calibration.empty()) {
    notes.push_back(fmt::format("Times are predictions with the parameters of: {}{}.", base.calibration,
                                base.fitted ? "" : " (not fitted: the band is a guess)"));
  }
  return notes;
}

/// Cells of one policy; `at` is its place in the document.
class SummaryRow {
 public:
  explicit SummaryRow(std::string at) : at_(std::move(at)) {}

  template <class T>
  void add(std::string_view key, const std::optional<T>& value, std::string text) {
    if (value) {
      cells.push_back(figure_cell(std::move(text), fmt::format("{}/{}", at_, key), *value));
    } else {
      cells.push_back({"–"});
    }
  }

  std::vector<HtmlCell> cells;

 private:
  std::string at_;
};

std::string memory_verdict(const ReportPolicy& policy) {
  if (!policy.fits) return "not known";
  if (*policy.fits) return "fits";
  return policy.infeasible_steps ? fmt::format("too much in {} step(s)", *policy.infeasible_steps)
                                 : "too much";
}

std::vector<HtmlCell> summary_row(const ReportScenario& scenario, std::size_t s, std::size_t p) {
  const ReportPolicy& policy = scenario.policies[p];
  const std::string scenario_at = fmt::format("/scenarios/{}", s);
  SummaryRow row(fmt::format("{}/policies/{}", scenario_at, p));
  row.cells.push_back({policy.name});
  row.add("total_us", std::optional(policy.total_us), format_us(policy.total_us));
  row.add("error_us", policy.error_us, "± " + format_us(policy.error_us.value_or(0)));
  row.add("speedup_over_default", policy.speedup_over_default, factor_text(policy.speedup_over_default));
  row.add("speedup_over_best_static", policy.speedup_over_best_static,
          factor_text(policy.speedup_over_best_static));
  row.add("regret_share", policy.regret_share, percent_text(policy.regret_share));
  if (scenario.dropped_share) {
    row.cells.push_back(figure_cell(percent_text(scenario.dropped_share), scenario_at + "/dropped/share",
                                    *scenario.dropped_share));
  } else {
    row.cells.push_back({"–"});
  }
  row.add("memory/peak_bytes", policy.peak_bytes,
          format_bytes(static_cast<double>(policy.peak_bytes.value_or(0))));
  row.cells.push_back({memory_verdict(policy)});
  row.add("plan_changes", policy.plan_changes, fmt::format("{}", policy.plan_changes.value_or(0)));
  return std::move(row.cells);
}

HtmlTable summary_of(const ReplayDocument& document) {
  HtmlTable table{.columns = {"policy", "total time", "band", "over default", "over best static", "regret",
                              "dropped", "memory", "on the device", "plan changes"}};
  const bool several = document.scenarios.size() > 1;
  if (several) {
    table.columns.insert(table.columns.begin(), "scenario");
    table.num_names = 2;
  }
  for (std::size_t s = 0; s < document.scenarios.size(); ++s) {
    const ReportScenario& scenario = document.scenarios[s];
    for (std::size_t p = 0; p < scenario.policies.size(); ++p) {
      std::vector<HtmlCell> row = summary_row(scenario, s, p);
      if (several) row.insert(row.begin(), {scenario.name});
      table.rows.push_back(std::move(row));
    }
  }
  return table;
}

std::vector<std::string> highlights_of(const ReplayDocument& document) {
  const ReportScenario& base = document.scenarios.front();
  const ReportPolicy& main = main_policy(base);
  std::string time = fmt::format("{} takes {}", main.name, format_us(main.total_us));
  if (main.error_us) time += fmt::format(" ± {}", format_us(*main.error_us));
  if (main.speedup_over_default)
    time += fmt::format(", {} as fast as the default plan", factor_text(main.speedup_over_default));
  if (main.speedup_over_best_static) {
    time += fmt::format(", {} as fast as the best static plan", factor_text(main.speedup_over_best_static));
  }
  std::string path = fmt::format("All-to-All is {} of its time", percent_text(main.exchange_share()));
  if (base.policies.front().name != main.name) {
    path += fmt::format(", {} of that of {}", percent_text(base.policies.front().exchange_share()),
                        base.policies.front().name);
  }
  if (main.regret_share)
    path += fmt::format("; it takes {} more than the oracle", percent_text(main.regret_share));
  std::string costs = base.dropped == 0 ? std::string("nothing is dropped")
                      : base.dropped_share
                          ? fmt::format("{} of the choices are dropped", percent_text(base.dropped_share))
                          : std::string("dropped choices are not known");
  if (main.peak_bytes) {
    costs += fmt::format("; a rank needs up to {} ({})", format_bytes(static_cast<double>(*main.peak_bytes)),
                         memory_verdict(main));
  }
  return {time, path, costs};
}

double longest_us(const ReplayDocument& document) {
  double longest = 0;
  for (const ReportScenario& scenario : document.scenarios) {
    for (const ReportPolicy& policy : scenario.policies) {
      longest = std::max(longest, policy.total_us + policy.error_us.value_or(0));
    }
  }
  return longest;
}

template <class MakeChart>
void add_row(ReportSection& section, const ReplayDocument& document, const MakeChart& make) {
  ChartRow row;
  for (const ReportScenario& scenario : document.scenarios) {
    std::optional<Chart> chart = make(scenario);
    if (!chart) continue;
    row.charts.push_back(*std::move(chart));
    row.captions.push_back(document.scenarios.size() > 1 ? caption_of(scenario) : "");
  }
  if (!row.charts.empty()) section.rows.push_back(std::move(row));
}

}  // namespace

ReportSection replay_section(const ReplayDocument& document, const Palette& palette) {
  ReportSection section{.kind = "Replay",
                        .headline = headline_of(document),
                        .notes = notes_of(document),
                        .summary = summary_of(document),
                        .highlights = highlights_of(document)};
  const double most_us = longest_us(document);
  add_row(section, document,
          [&](const ReportScenario& one) { return std::optional(totals_chart(one, palette, most_us)); });
  add_row(section, document, [&](const ReportScenario& one) { return plans_chart(one, palette); });
  add_row(section, document,
          [&](const ReportScenario& one) { return regret_chart(one, palette, document.steps); });
  add_row(section, document, [&](const ReportScenario& one) { return classes_chart(one, most_us); });
  add_row(section, document, [&](const ReportScenario& one) { return timeline_chart(one); });
  add_row(section, document, [&](const ReportScenario& one) { return load_chart(one, document.experts); });
  if (std::optional<Chart> scaling = scaling_chart(document, palette)) {
    section.rows.push_back({.captions = {""}, .charts = {*std::move(scaling)}});
  }
  return section;
}

}  // namespace flex
