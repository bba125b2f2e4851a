#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>

/// What is said of searches.
namespace flex::bench {

/// One search, judged by the truth.
struct Outcome {
  double regret = 0;
  double over_default = 0;  ///< time beyond the default plan's, as a fraction of that
  std::int64_t evaluations = 0;
  std::int64_t num_candidates = 0;
  double paper_count = 0;    ///< of one pass: (log_1.5(s) + 2) * 8
  double random_regret = 0;  ///< expected of as many evaluations spent on pairs by chance
};

/// What the table and the JSON say of one contestant.
struct Summary {
  std::string name;
  double mean_regret = 0, p95_regret = 0, max_regret = 0;
  double mean_evaluations = 0;
  std::int64_t max_evaluations = 0;
  double mean_share = 0;
  double max_over_budget = 0;  ///< evaluations over max(6, a tenth of the candidates)
  double max_over_paper = 0;   ///< evaluations of a pass over the count of the paper's search
  double max_over_default = 0, slower_than_default = 0;
  double random_regret = 0;
};

/// `noise`: relative spread of evaluations; what two of them differ by is no difference.
[[nodiscard]] Summary summarize(const std::string& name, std::span<const Outcome> outcomes, double noise);

/// `12.34%`.
[[nodiscard]] std::string percent(double fraction);
/// One line for each.
[[nodiscard]] std::string table_of(std::span<const Summary> summaries);
[[nodiscard]] nlohmann::ordered_json to_json(const Summary& summary);

}  // namespace flex::bench
