#include "cli/tune_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/table.h"

namespace flex::cli {
namespace {

/// Durations that the row is judged by.
const std::vector<TimedPlan>& judged_by(const TunedRow& row) {
  return row.truth.empty() ? row.result.evaluated : row.truth;
}

/// By how much slower than the best pair, which is known if all candidates are.
std::optional<double> regret(const TunedRow& row, const PlanPair& pair) {
  const std::vector<TimedPlan>& timed = judged_by(row);
  if (static_cast<std::int64_t>(timed.size()) < row.num_candidates) return std::nullopt;
  const auto best = fastest_pair(timed, row.result.passes);
  if (!best) return std::nullopt;
  return total_us(timed, pair, row.result.passes) / best->total_us - 1;
}

/// The best single pair over all layers, and what it and the tuned pairs take together.
struct StaticChoice {
  TimedPlanPair pair;
  double tuned_us = 0;
};

std::optional<StaticChoice> best_static(const std::vector<TunedRow>& rows) {
  if (rows.size() < 2) return std::nullopt;
  std::vector<std::vector<TimedPlan>> loads;
  double tuned_us = 0;
  for (const TunedRow& row : rows) {
    loads.push_back(judged_by(row));
    tuned_us += total_us(loads.back(), row.result.best().search.best, row.result.passes);
  }
  const auto pair = fastest_common_pair(loads, rows.front().result.passes);
  if (!pair) return std::nullopt;
  return StaticChoice{*pair, tuned_us};
}

double gain(const SearchResult& search) { return search.default_us / search.best.total_us - 1; }

}  // namespace

std::string tune_table(const std::vector<TunedRow>& rows) {
  Table table({{"layer", Align::kLeft},
               {"C"},
               {"strategy", Align::kLeft},
               {"best plan", Align::kLeft},
               {"time"},
               {"default"},
               {"gain"},
               {"regret"},
               {"evaluations"},
               {"new"},
               {"search", Align::kLeft}});
  for (const TunedRow& row : rows) {
    bool first = true;
    for (const StrategyResult& one : row.result.strategies) {
      const SearchResult& search = one.search;
      const std::optional<double> behind = regret(row, search.best);
      table.add({first ? to_string(row.layer.shape()) : "",
                 first ? fmt::format("{}", row.workload.capacity) : "", std::string(name(one.strategy)),
                 to_string(search.best), format_us(search.best.total_us), format_us(search.default_us),
                 fmt::format("{:+.1f}%", 100 * gain(search)),
                 behind ? fmt::format("{:.1f}%", 100 * *behind) : "-",
                 fmt::format("{} of {}", search.num_evaluations(), row.num_candidates),
                 fmt::format("{}", one.num_new), search.complete ? "complete" : "cut short"});
      first = false;
    }
  }
  std::string text = table.text();
  text +=
      "gain: over the default plan r1 d1 linear. regret: behind the best pair of all plans, where all are "
      "known.\n";
  if (const auto choice = best_static(rows)) {
    text += fmt::format(
        "The best single plan for all {} layers, {}, takes {}; the tuned plans take {}: {:+.1f}%\n",
        rows.size(), to_string(choice->pair), format_us(choice->pair.total_us), format_us(choice->tuned_us),
        100 * (choice->pair.total_us / choice->tuned_us - 1));
  }
  return text;
}

nlohmann::ordered_json tune_json(const std::vector<TunedRow>& rows) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const TunedRow& row : rows) {
    nlohmann::ordered_json strategies = nlohmann::ordered_json::array();
    for (const StrategyResult& one : row.result.strategies) {
      const SearchResult& search = one.search;
      nlohmann::ordered_json json = {{"strategy", name(one.strategy)},
                                     {"plan", to_string(search.best.forward)},
                                     {"backward_plan", to_string(search.best.backward)},
                                     {"total_us", search.best.total_us},
                                     {"default_us", search.default_us},
                                     {"gain", gain(search)},
                                     {"evaluations", search.num_evaluations()},
                                     {"new_evaluations", one.num_new},
                                     {"complete", search.complete}};
      if (const auto behind = regret(row, search.best)) json["regret"] = *behind;
      strategies.push_back(std::move(json));
    }
    nlohmann::ordered_json layer = row.layer.json();
    layer["capacity"] = row.workload.capacity;
    layer["candidates"] = row.num_candidates;
    layer["strategies"] = std::move(strategies);
    layers.push_back(std::move(layer));
  }
  nlohmann::ordered_json json = {{"layers", std::move(layers)}};
  if (const auto choice = best_static(rows)) {
    json["best_static"] = {{"plan", to_string(choice->pair.forward)},
                           {"backward_plan", to_string(choice->pair.backward)},
                           {"total_us", choice->pair.total_us},
                           {"tuned_us", choice->tuned_us}};
  }
  return json;
}

}  // namespace flex::cli
