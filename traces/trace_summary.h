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
};

/// What a trace says of one layer.
struct LayerSummary {
  std::int64_t num_forward = 0;  ///< records
  std::int64_t num_backward = 0;
  std::int64_t num_tokens = 0;  ///< of all forward records and ranks
  Spread needed_capacity;
  Spread max_over_mean;  ///< of the tokens per expert; passes without tokens count as 1
  std::map<std::string, std::int64_t> forward_plans;  ///< records by plan
  std::map<std::string, std::int64_t> backward_plans;
  std::int64_t num_timed_forward = 0;  ///< records with a duration
  std::int64_t num_timed_backward = 0;
  Spread forward_us;
  Spread backward_us;
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
