#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "costmodel/cost_parameters.h"
#include "costmodel/prediction.h"
#include "costmodel/stream_use.h"

namespace flex::cli {

/// Predictions on one cluster.
struct PredictionRow {
  Cluster cluster;
  Workload workload;
  std::vector<PlanPrediction> plans;  ///< fastest first
  std::optional<BaselinePrediction> baseline;
  RankUse streams{};  ///< of the first plan
};

/// What the figures are worth: whose parameters, and whether they were fitted.
[[nodiscard]] std::string calibration_text(const Calibration& calibration, const Cluster& cluster);
/// A row for each plan: time and its band, where the time goes, memory, speedup over the baseline.
[[nodiscard]] std::string prediction_table(const PredictionRow& row);
/// A row for each size, with its first plan.
[[nodiscard]] std::string scale_table(const std::vector<PredictionRow>& rows);
/// `inputs`, and what was predicted for them.
[[nodiscard]] nlohmann::ordered_json predictions_json(nlohmann::ordered_json inputs,
                                                      const std::vector<PredictionRow>& rows);

}  // namespace flex::cli
