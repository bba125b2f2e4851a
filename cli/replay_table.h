#pragma once

#include <span>
#include <string>

#include "traces/replay/replay.h"

/// What `flexmoe replay` prints for people.
namespace flex::cli {

/// One line on the trace.
[[nodiscard]] std::string trace_text(const std::string& file, const IterationTrace& trace);

/// A scenario with a row for each policy.
[[nodiscard]] std::string scenario_text(const ScenarioResult& result);

/// The others beside the first, policy by policy.
[[nodiscard]] std::string comparison_text(std::span<const ScenarioResult> results);

}  // namespace flex::cli
