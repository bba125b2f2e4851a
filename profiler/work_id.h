#pragma once

#include <cstdint>
#include <optional>

namespace flex {

/// Which piece of work something on a timeline belongs to. -1: does not apply.
struct WorkId {
  std::int64_t iteration = 0;
  std::int32_t local_rank = 0;  ///< of the ranks in this process; 0 with one rank a process
  std::int32_t layer = -1;
  std::int32_t pass = -1;       ///< which of the iteration's recorded passes
  std::int32_t operation = -1;  ///< index in that pass's schedule; -1: the whole pass, e.g. a graph's launch
  std::int32_t chunk = -1;      ///< -1: not split

  friend bool operator==(const WorkId&, const WorkId&) = default;
};

/// Largest values that pack() takes.
inline constexpr WorkId kMaxWorkId{.iteration = (std::int64_t{1} << 27) - 1,
                                   .local_rank = 62,
                                   .layer = 254,
                                   .pass = 62,
                                   .operation = 1022,
                                   .chunk = 62};

/// Puts a WorkId into the 64 bits of an external correlation id. From the highest bit:
///
///     iteration 27 | local rank + 1: 6 | layer + 1: 8 | pass + 1: 6 | operation + 1: 10 | chunk + 1: 6 | 0
///
/// Nothing packs to 0 (no id), nor to kReservedWorkId; ids of one rank sort by iteration, layer, pass,
/// operation and chunk. @throws InputError for a value below -1 (iteration and rank: 0) or above kMaxWorkId.
[[nodiscard]] std::uint64_t pack(const WorkId& id);
/// Inverse of pack(); nothing for what pack() does not make.
[[nodiscard]] std::optional<WorkId> unpack_work_id(std::uint64_t packed);

/// Not the id of any work: the profiler's own.
inline constexpr std::uint64_t kReservedWorkId = ~std::uint64_t{0};

}  // namespace flex
