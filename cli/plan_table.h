#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "runtime/device_ceilings.h"
#include "runtime/layer_benchmark.h"

namespace flex::cli {

/// A row for each plan: time, tokens/s, FLOP/s of the experts' products, bytes beside the formula, drops,
/// loss. `tokens` of all ranks per pass.
[[nodiscard]] std::string plan_table(const std::vector<PlanMeasurement>& measurements, double tokens);
/// A row for each operation of one plan's pass: time, rate, bytes per second, and their shares of what the
/// device reaches at best, where that is known.
[[nodiscard]] std::string operation_table(const PlanMeasurement& measurement,
                                          const std::optional<DeviceCeilings>& ceilings);
[[nodiscard]] nlohmann::ordered_json plan_json(const std::vector<PlanMeasurement>& measurements,
                                               double tokens);

[[nodiscard]] nlohmann::ordered_json operations_json(const std::vector<OperationTime>& operations);

}  // namespace flex::cli
