#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json_object.h"

/// The document that `flexmoe tune --json` prints, as far as a report shows it.
namespace flex {

struct ReportSearch {
  std::string strategy;
  std::string plan;
  std::string backward_plan;
  double total_us = 0;
  double default_us = 0;
  double gain = 0;
  std::int64_t evaluations = 0;
  std::optional<double> regret;
  bool complete = true;

  /// Forward and backward plan, once where they are alike.
  [[nodiscard]] std::string plans() const {
    return backward_plan.empty() || backward_plan == plan ? plan : plan + " / " + backward_plan;
  }
};

struct ReportLayer {
  std::vector<std::string> sizes;  ///< `T 4096`, `M 2048` ...: of every layer the same ones in the same order
  std::optional<std::int64_t> capacity;
  std::int64_t candidates = 0;
  std::vector<ReportSearch> searches;  ///< at least one

  [[nodiscard]] const ReportSearch& best() const;
};

struct TuneDocument {
  std::string on;
  std::string pass;
  bool interrupted = false;
  std::vector<ReportLayer> layers;  ///< at least one
  std::string best_static;          ///< the best plans for all layers; empty: not known
  double best_static_us = 0;
  double tuned_us = 0;
};

/// @throws InputError with file and key.
[[nodiscard]] TuneDocument parse_tune_document(JsonObject document);

}  // namespace flex
