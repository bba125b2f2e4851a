#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/rank_context.h"
#include "runtime/span_recorder.h"

namespace flex {

/// When all ranks ran the operations of one training pass. The same on all ranks.
struct PassRecord {
  struct Times {
    std::int64_t begin_ns = 0;
    std::int64_t end_ns = 0;
  };
  int world = 1;
  /// Consecutive ranks that share a device; it divides world. Kernels of one queue behind those of another,
  /// also of another operation, so that what compute takes is a matter of all of them.
  int ranks_per_device = 1;
  std::vector<RecordedOperation> operations;  ///< in issue order; their times are one rank's
  std::vector<Times> times;                   ///< (W, operations), on the steady clock that the ranks share

  [[nodiscard]] const Times& at(int rank, std::size_t operation) const {
    return times[static_cast<std::size_t>(rank) * operations.size() + operation];
  }
};

/// Collective, for ranks of one host that ran the same schedules. What a source did not see
/// (MarkSource::kNotReached) has been done when it was ready.
[[nodiscard]] PassRecord gather_record(std::span<const RecordedOperation> recorded, RankContext& context,
                                       int ranks_per_device = 1);

/// What one operation took, and how much of it ran beside work of the same rank on the other stream.
struct OperationDuration {
  double us = 0;          ///< from when it was ready; of a collective from when its last member was
  double overlap_us = 0;  ///< of that; of a collective, beside compute of any member
};

/// By operation, as OperationCost counts durations: an operation is ready when its stream has come to it and
/// all that it waits for is done, so that what it takes to start belongs to it. Waiting for peers is no part
/// of a duration, nor does it count as work beside the other stream. The mean over ranks; a collective ends
/// for all members of a group when the last of them ends. Of what ranks that share a device do each by
/// itself, the duration is that of all of them together: the time of the device is divided among the
/// operations of its compute streams, and among those of its communication streams, by divide_device_time().
/// So it does not depend on whose kernels ran first, and durations of a chain add up to its length.
[[nodiscard]] std::vector<OperationDuration> durations_of(const PassRecord& record);

}  // namespace flex
