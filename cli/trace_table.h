#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "traces/trace_reader.h"
#include "traces/trace_summary.h"

/// What `flexmoe trace inspect` prints.
namespace flex::cli {

/// Where the trace comes from, how large it is, and a line for each layer. `reader`: read to its end.
[[nodiscard]] std::string summary_text(const std::string& file, const TraceReader& reader,
                                       const TraceSummary& summary);
[[nodiscard]] nlohmann::ordered_json summary_json(const TraceReader& reader, const TraceSummary& summary);

}  // namespace flex::cli
