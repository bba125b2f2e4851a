#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "traces/trace_reader.h"

namespace flex {

/// Least, middle and largest of some values; zeros of none.
struct Spread {
  double min = 0;
  double median = 0;  ///< of an even number, the lower of the two in the middle
  double max = 0;

  friend bool operator==(const Spread&, const Spread&) = default;
};

/// The forward or the backward passes of one layer.
struct PassesSummary {
  std::int64_t num_records = 0;
  std::map<std::string, std::int64_t> plans;  ///< records by plan, where one is known
  std::int64_t num_timed = 0;                 ///< records with a duration
  Spread us;                                  ///< of the durations

  friend bool operator==(const PassesSummary&, const PassesSummary&) = default;
};

/// What a trace says of one layer.
struct LayerSummary {
  PassesSummary forward;
  PassesSummary backward;
  std::int64_t num_tokens = 0;  ///< of all forward records and ranks
  Spread needed_capacity;
  Spread max_over_mean;  ///< of the tokens per expert; 1 for passes without tokens
};

struct TraceSummary {
  std::int64_t num_records = 0;
  std::optional<std::int64_t> first_step;
  std::optional<std::int64_t> last_step;
  std::vector<LayerSummary> layers;
};

/// Reads to the end. @throws as TraceReader::next().
[[nodiscard]] TraceSummary summarize(TraceReader& reader);

}  // namespace flex
