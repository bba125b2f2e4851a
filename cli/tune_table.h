#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/layer_options.h"
#include "tuner/tune.h"

namespace flex::cli {

/// One tuned layer, as it is reported.
struct TunedRow {
  LayerOptions layer;
  Workload workload;
  std::int64_t num_candidates = 0;
  TuneResult result;
  /// What regret is taken from: all plans and passes without noise. Nothing: by the evaluations, if they are
  /// all there.
  std::vector<TimedPlan> truth;
};

/// A row for each layer and strategy, then the best single pair of plans over all layers.
[[nodiscard]] std::string tune_table(const std::vector<TunedRow>& rows);
[[nodiscard]] nlohmann::ordered_json tune_json(const std::vector<TunedRow>& rows);

}  // namespace flex::cli
