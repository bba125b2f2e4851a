#pragma once

#include <nlohmann/json_fwd.hpp>

#include "traces/replay/replay.h"

/// Private to replay_json().
namespace flex {

/// One of `scenarios`.
[[nodiscard]] nlohmann::ordered_json scenario_json(const ScenarioResult& result);

}  // namespace flex
