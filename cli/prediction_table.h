#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "costmodel/cost_parameters.h"
#include "costmodel/prediction.h"

namespace flex::cli {

/// Predictions on one cluster.
struct PredictionRow {
  Cluster cluster;
  Workload workload;
  std::vector<PlanPrediction> plans;  ///< fastest first
  std::optional<double> baseline_us;
};

/// What the figures are worth: whose parameters, and whether they were fitted.
[[nodiscard]] std::string calibration_text(const Calibration& calibration);
/// A row for each plan: time and its band, where the time goes, memory, speedup over the baseline.
[[nodiscard]] std::string prediction_table(const PredictionRow& row);
/// A row for each size, with its first plan.
[[nodiscard]] std::string scale_table(const std::vector<PredictionRow>& rows);
[[nodiscard]] nlohmann::ordered_json predictions_json(const std::vector<PredictionRow>& rows,
                                                      const Calibration& calibration);

}  // namespace flex::cli
