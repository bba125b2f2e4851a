#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "bench/effectiveness_study.h"

/// What is said of the effectiveness study.
namespace flex::bench {

/// A published ordering, and in how many runs it shows; runs are paired by seed.
struct StudyOrdering {
  std::string text;
  double mean_gain = 0;  ///< in points of accuracy
  std::int64_t num_pairs = 0;
  std::int64_t num_showing = 0;  ///< pairs in which the gain is above 0

  [[nodiscard]] bool shows() const { return mean_gain > 0; }
};

/// MoE above dense for each E; the gain grows from the smallest to the largest E; batch-prioritized routing
/// above token order at f = 0.5 for each E. Those for which there are runs.
[[nodiscard]] std::vector<StudyOrdering> study_orderings(const StudyResult& result);

/// How it was done, the table of models, the table of routings, the orderings: Markdown.
[[nodiscard]] std::string study_markdown(const StudyResult& result);
[[nodiscard]] nlohmann::ordered_json to_json(const StudyResult& result);

}  // namespace flex::bench
