#pragma once

#include <cstdint>
#include <string>

namespace flex {

/// What became of the records. Nothing leaves without a trace: each record read is in one of the counts.
struct CuptiCounts {
  std::int64_t activities = 0;     ///< kernels, copies and memsets that can be used
  std::int64_t correlations = 0;   ///< external correlation records, other tools' included
  std::int64_t calls = 0;          ///< of the CUDA runtime and driver; only their correlations matter
  std::int64_t overheads = 0;      ///< records of time that CUPTI itself took
  std::int64_t unknown = 0;        ///< of kinds that are not read
  std::int64_t too_short = 0;      ///< cut off by the buffer's end
  std::int64_t without_times = 0;  ///< CUPTI had no memory for their times, or they were not done
  std::int64_t lost = 0;           ///< CUPTI had no buffer for them
  std::int64_t unattributed = 0;   ///< activities that belong to no WorkId, e.g. another library's
  std::int64_t contradicted = 0;   ///< correlation ids that came with several external ids

  CuptiCounts& operator+=(const CuptiCounts& other);
  friend bool operator==(const CuptiCounts&, const CuptiCounts&) = default;
};
/// One line for people, with zeros left out: `120 activities, 3 lost`.
[[nodiscard]] std::string to_string(const CuptiCounts& counts);

}  // namespace flex
