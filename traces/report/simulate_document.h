#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json_object.h"

/// The document that `flexmoe simulate --json` prints, as far as a report shows it.
namespace flex {

struct ReportPrediction {
  std::string plans;  ///< forward and backward, once where they are alike
  double total_us = 0;
  double error_us = 0;
  std::vector<std::pair<std::string, double>> class_us;  ///< in the order of OperationClass
  std::optional<std::int64_t> memory_bytes;
  std::optional<bool> fits;
  std::optional<double> speedup;  ///< over Fairseq's formulation
};

struct ReportSize {
  std::int64_t ranks = 0;
  std::int64_t nodes = 0;
  std::int64_t experts = 0;
  std::int64_t capacity = 0;
  std::optional<double> fairseq_us;
  std::vector<ReportPrediction> predictions;  ///< at least one

  /// The fastest of those that fit, or of all if none does.
  [[nodiscard]] std::size_t best() const;
};

struct SimulateDocument {
  std::string cluster;
  std::string pass;
  std::string calibration;
  bool fitted = true;
  std::vector<ReportSize> sizes;  ///< at least one
};

/// @throws InputError with file and key.
[[nodiscard]] SimulateDocument parse_simulate_document(JsonObject document);

}  // namespace flex
