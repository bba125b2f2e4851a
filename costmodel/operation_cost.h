#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "costmodel/schedule.h"

namespace flex {

/// Where a duration comes from.
enum class CostOrigin : std::uint8_t {
  kMeasured,      ///< this operation with these sizes was timed
  kInterpolated,  ///< between sizes that were timed
  kRoofline,      ///< computed from what the machine can do
};
inline constexpr int kNumCostOrigins = static_cast<int>(CostOrigin::kRoofline) + 1;
/// `measured`, `interpolated`, `roofline`.
[[nodiscard]] constexpr std::string_view name(CostOrigin origin) {
  switch (origin) {
    case CostOrigin::kMeasured:
      return "measured";
    case CostOrigin::kInterpolated:
      return "interpolated";
    case CostOrigin::kRoofline:
      return "roofline";
  }
  return "?";
}

/// What one operation takes on one rank, with nothing beside it.
struct OperationCost {
  /// From when its stream reaches it and all that it waits for is done; finite and at least 0. What the
  /// device needs to start it belongs in here. Of a collective: from when its last member has arrived.
  double duration_us = 0;
  CostOrigin origin = CostOrigin::kRoofline;
  double relative_error = 0;  ///< of the duration, as a fraction: the band of a calibration's residuals
  /// What the host needs to queue it; finite and at least 0. It begins no earlier than the host has queued it
  /// and all operations before it. Of no meaning for host operations, which the host runs in place.
  double issue_us = 0;

  friend bool operator==(const OperationCost&, const OperationCost&) = default;
};

/// What may differ between the ranks of one operation.
struct RankLoad {
  int rank = 0;
  std::int64_t num_tokens = 0;  ///< this rank's; at most the workload's
  /// Rows that each of the rank's experts computes in this operation, for the products of a counted plan
  /// whose counts are known. Empty otherwise: then all experts have Operation::size.rows.
  std::span<const std::int64_t> expert_rows;
};

/// How much longer operations take while the other stream of their rank is busy; at least 1.
struct OverlapSlowdown {
  double compute = 1;        ///< factor of compute beside communication
  double communication = 1;  ///< factor of communication beside compute on any of its members

  friend bool operator==(const OverlapSlowdown&, const OverlapSlowdown&) = default;
};

/// Durations of operations: a fitted model, a table of measurements, a test's numbers. A pure function of its
/// arguments: asked in any order, any number of times, from several threads.
class OperationCosts {
 public:
  virtual ~OperationCosts() = default;

  /// Of schedule.operations[index] on the rank of `load`. The duration of a collective is the largest of its
  /// members' answers.
  [[nodiscard]] virtual OperationCost cost(const Schedule& schedule, std::size_t index,
                                           const RankLoad& load) const = 0;
  /// While communication of a plan with `algorithm` runs.
  [[nodiscard]] virtual OverlapSlowdown overlap(AllToAllAlgorithm algorithm) const = 0;
  /// Of a whole pass of a plan with `algorithm`, as a fraction of its time: what durations of its operations
  /// do not explain, since they are composed wrongly. Slowdowns differ from pass to pass, streams wake up
  /// late, chains beside the critical path are nearly as long. Finite and at least 0.
  [[nodiscard]] virtual double pass_error(AllToAllAlgorithm /*algorithm*/) const { return 0; }
  /// False if equal loads cost the same on every rank, so that one rank can stand for all.
  [[nodiscard]] virtual bool differs_by_rank() const { return false; }
};

}  // namespace flex
