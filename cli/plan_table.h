#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "runtime/layer_benchmark.h"

namespace flex::cli {

/// A row for each plan: time, tokens/s, FLOP/s of the experts' products, bytes beside the formula, drops,
/// loss. `tokens` of all ranks per pass.
[[nodiscard]] std::string plan_table(const std::vector<PlanMeasurement>& measurements, double tokens);
[[nodiscard]] nlohmann::ordered_json plan_json(const std::vector<PlanMeasurement>& measurements,
                                               double tokens);

}  // namespace flex::cli
