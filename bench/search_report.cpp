#include "bench/search_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "cli/table.h"

namespace flex::bench {

Summary summarize(const std::string& name, std::span<const Outcome> outcomes, double noise) {
  Summary summary{.name = name};
  const double comparison_spread = std::sqrt(2.0) * noise;  // of two evaluations
  const auto count = static_cast<double>(outcomes.size());
  std::vector<double> regrets;
  for (const Outcome& one : outcomes) {
    regrets.push_back(one.regret);
    summary.mean_regret += one.regret / count;
    summary.mean_evaluations += static_cast<double>(one.evaluations) / count;
    summary.max_evaluations = std::max(summary.max_evaluations, one.evaluations);
    summary.mean_share +=
        static_cast<double>(one.evaluations) / static_cast<double>(one.num_candidates) / count;
    summary.max_over_budget =
        std::max(summary.max_over_budget, static_cast<double>(one.evaluations) /
                                              std::max(6.0, 0.1 * static_cast<double>(one.num_candidates)));
    summary.max_over_paper =
        std::max(summary.max_over_paper, static_cast<double>(one.evaluations) / 2 / one.paper_count);
    summary.max_over_default = std::max(summary.max_over_default, one.over_default);
    summary.slower_than_default += one.over_default > comparison_spread ? 1 / count : 0;
    summary.random_regret += one.random_regret / count;
  }
  std::ranges::sort(regrets);
  summary.p95_regret = regrets[static_cast<std::size_t>(std::ceil(0.95 * count)) - 1];
  summary.max_regret = regrets.back();
  return summary;
}

std::string percent(double fraction) { return fmt::format("{:.2f}%", 100 * fraction); }

std::string table_of(std::span<const Summary> summaries) {
  cli::Table table({{"strategy", cli::Align::kLeft},
                    {"mean regret"},
                    {"95th pct"},
                    {"largest"},
                    {"random baseline"},
                    {"evaluations"},
                    {"most"},
                    {"share of space"},
                    {"of 6 or 10%"},
                    {"of paper's count"},
                    {"over default"},
                    {"beyond noise"}});
  for (const Summary& s : summaries) {
    table.add({s.name, percent(s.mean_regret), percent(s.p95_regret), percent(s.max_regret),
               percent(s.random_regret), fmt::format("{:.1f}", s.mean_evaluations),
               std::to_string(s.max_evaluations), percent(s.mean_share),
               fmt::format("{:.2f}", s.max_over_budget), fmt::format("{:.2f}", s.max_over_paper),
               percent(s.max_over_default), percent(s.slower_than_default)});
  }
  return table.text();
}

nlohmann::ordered_json to_json(const Summary& s) {
  return {{"strategy", s.name},
          {"mean_regret", s.mean_regret},
          {"p95_regret", s.p95_regret},
          {"max_regret", s.max_regret},
          {"random_baseline_regret", s.random_regret},
          {"mean_evaluations", s.mean_evaluations},
          {"max_evaluations", s.max_evaluations},
          {"mean_share_of_space", s.mean_share},
          {"max_evaluations_over_budget", s.max_over_budget},
          {"max_evaluations_over_papers_count", s.max_over_paper},
          {"max_over_default", s.max_over_default},
          {"slower_than_default_beyond_noise", s.slower_than_default}};
}

}  // namespace flex::bench
