#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>

#include "traces/replay/replay.h"

namespace flex {

inline constexpr std::int64_t kReplayDocumentVersion = 1;

/// The document of docs/replay-format.md. `file`: where the trace is from.
[[nodiscard]] nlohmann::ordered_json replay_json(const std::string& file, const IterationTrace& trace,
                                                 std::span<const ScenarioResult> results,
                                                 const ReplayOptions& options);

}  // namespace flex
