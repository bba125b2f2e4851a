#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "costmodel/prediction.h"
#include "tuner/tuned_plans.h"
#include "tuner/tuning_target.h"

namespace flex::cli {

/// One candidate, with what a model and the cache say of it.
struct ExplainedPlan {
  Plan plan;
  std::map<Pass, PlanPrediction> predicted;  ///< of that pass alone; counted plans have none
  std::map<Pass, Trial> trials;              ///< the latest of the most trusted source
  std::int64_t memory_bytes = 0;             ///< of the layer on one rank
};

/// Why a layer runs with its plans.
struct Explanation {
  TuningTarget target;
  std::string where;        ///< ranks or cluster, in words
  std::string calibration;  ///< what predictions rest on, in words
  std::string cache;        ///< what decisions and trials are from, in words
  PlanPair chosen;
  std::string why;
  std::map<Pass, std::optional<Decision>> decisions;        ///< of the case of each pass
  std::vector<ExplainedPlan> candidates;                    ///< fastest prediction first
  std::map<std::string, std::vector<std::string>> illegal;  ///< plans by the reason
};

[[nodiscard]] std::string explanation_text(const Explanation& explanation);
[[nodiscard]] nlohmann::ordered_json explanation_json(const Explanation& explanation);

}  // namespace flex::cli
