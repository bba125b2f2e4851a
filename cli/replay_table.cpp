#include "cli/replay_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/prediction_table.h"
#include "cli/table.h"

namespace flex::cli {
namespace {

std::string percent(double part, double whole) {
  return whole > 0 ? fmt::format("{:.1f}%", 100 * part / whole) : "-";
}

std::string factor(const std::optional<double>& value) {
  return value ? fmt::format("{:.3f}x", *value) : "-";
}

std::string regret(const PolicyResult& result) {
  if (!result.regret_us) return "-";
  return result.regret_share ? fmt::format("{:.2f}%", 100 * *result.regret_share) : "0.00%";
}

std::string memory(const ReplayMemory& memory) {
  const std::string bytes = format_bytes(static_cast<double>(memory.peak_bytes));
  return memory.infeasible_steps == 0 ? bytes : bytes + " !";
}

std::string dropped_text(const ScenarioResult& result) {
  if (result.num_dropped == 0) return "nothing is dropped";
  return fmt::format(
      "{} of {} choices are dropped ({})", result.num_dropped, result.num_choices,
      percent(static_cast<double>(result.num_dropped), static_cast<double>(result.num_choices)));
}

/// Sentences on what a row cannot say.
std::string notes(const ScenarioResult& result) {
  std::string text;
  for (const PolicyResult& one : result.policies) {
    if (one.resolved) {
      text += fmt::format("best-static is {}\n", to_string(PolicySpec{PolicyKind::kStatic, *one.resolved}));
    }
    if (one.measured_us) {
      text += fmt::format("the recorded run took {}, measured where it ran\n", format_us(*one.measured_us));
    }
    if (one.memory.infeasible_steps > 0) {
      text += fmt::format("! {} does not fit into the device's memory in {} of {} steps\n",
                          to_string(one.policy), one.memory.infeasible_steps, result.trace.steps.size());
    }
  }
  return text;
}

}  // namespace

std::string trace_text(const std::string& file, const IterationTrace& trace) {
  return fmt::format("{}: {} iterations of {} layer(s) on {} ranks, {}, steps {} to {}\n", file,
                     trace.iterations.size(), trace.header.layers.size(), trace.header.world,
                     name(trace.header.origins.front().source), trace.iterations.front().step,
                     trace.iterations.back().step);
}

std::string scenario_text(const ScenarioResult& result) {
  const Cluster& cluster = result.machine.cluster;
  std::string text = fmt::format(
      "{}: {} ranks on {} node(s) of {}{}{}\n{}{}\n\n", result.scenario.name, cluster.world(), cluster.nodes,
      cluster.name, result.scenario.changes.empty() ? "" : ", with ", fmt::join(result.scenario.changes, " "),
      calibration_text(result.machine.calibration, cluster), dropped_text(result));
  std::vector<Column> columns = {{"policy", Align::kLeft}, {"total"},  {"±"},       {"over default"},
                                 {"over best static"},     {"regret"}, {"changes"}, {"memory"}};
  for (int i = 0; i < kNumOperationClasses; ++i) {
    columns.push_back({std::string(name(static_cast<OperationClass>(i)))});
  }
  Table table(columns);
  for (const PolicyResult& one : result.policies) {
    std::vector<std::string> row = {to_string(one.policy),
                                    format_us(one.total_us),
                                    format_us(one.error_us),
                                    factor(one.speedup_over_default),
                                    factor(one.speedup_over_best_static),
                                    regret(one),
                                    fmt::format("{}", one.plan_changes),
                                    memory(one.memory)};
    for (const double us : one.class_us) row.push_back(percent(us, one.total_us));
    table.add(std::move(row));
  }
  return text + table.text() + notes(result);
}

std::string comparison_text(std::span<const ScenarioResult> results) {
  const ScenarioResult& base = results.front();
  std::vector<Column> columns = {{"policy", Align::kLeft}, {base.scenario.name}};
  for (const ScenarioResult& other : results.subspan(1)) {
    columns.push_back({other.scenario.name});
    columns.push_back({"time"});
  }
  Table table(columns);
  for (std::size_t i = 0; i < base.policies.size(); ++i) {
    const double base_us = base.policies[i].total_us;
    std::vector<std::string> row = {to_string(base.policies[i].policy), format_us(base_us)};
    for (const ScenarioResult& other : results.subspan(1)) {
      const double us = other.policies[i].total_us;
      row.push_back(format_us(us));
      row.push_back(base_us > 0 ? fmt::format("{:.3f}x", us / base_us) : "-");
    }
    table.add(std::move(row));
  }
  const auto add_row = [&](const std::string& title, auto&& cell) {
    std::vector<std::string> row = {title, cell(base)};
    for (const ScenarioResult& other : results.subspan(1)) {
      row.push_back(cell(other));
      row.emplace_back();
    }
    table.add(std::move(row));
  };
  add_row("dropped choices", [](const ScenarioResult& one) {
    return percent(static_cast<double>(one.num_dropped), static_cast<double>(one.num_choices));
  });
  add_row("ranks", [](const ScenarioResult& one) { return fmt::format("{}", one.machine.cluster.world()); });
  return table.text();
}

}  // namespace flex::cli
