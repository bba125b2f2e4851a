#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "costmodel/operation_cost.h"
#include "costmodel/schedule.h"

namespace flex {

inline constexpr int kNumStreams = static_cast<int>(StreamKind::kCommunication) + 1;

/// Ranks that take part in an operation together.
enum class OperationGroup : std::uint8_t {
  kNone,     ///< each rank by itself
  kWorld,    ///< all ranks
  kNode,     ///< the ranks of a node
  kRail,     ///< the ranks with the same place in their nodes
  kWeights,  ///< consecutive ranks that gather weights together
};
[[nodiscard]] OperationGroup group_of(OperationKind kind);
/// Of the communication stream, or an agreement of the host: what is no compute of a rank by itself.
[[nodiscard]] bool is_communication(OperationKind kind);

/// One operation of the simulated passes: the same on all ranks.
struct SimulatedOperation {
  Operation operation;
  std::int32_t pass = 0;   ///< which of the passes
  std::int32_t index = 0;  ///< in that pass's schedule
  std::int32_t group_size = 1;
  /// By stream: the last operation on it that must be done first (in the own stream: the one before), or -1.
  std::array<std::int32_t, kNumStreams> after{-1, -1, -1};
};

/// When one rank ran one operation, in microseconds from the start of the first pass.
struct OperationTimes {
  double issued_us = 0;  ///< the host had queued it
  double ready_us = 0;   ///< so it was, its stream had reached it, and all that it waits for was done
  double begin_us = 0;   ///< the last member of its group was ready
  double end_us = 0;
  std::int32_t last_rank = 0;  ///< the member that was ready last (the lowest of several); the own, if alone

  friend bool operator==(const OperationTimes&, const OperationTimes&) = default;
};

/// What a run of the simulator found. A plain value that refers to nothing.
struct Simulation {
  int world = 1;
  int num_ranks = 1;                           ///< simulated: all, or one that stands for all
  double total_us = 0;                         ///< until the last operation of any rank was done
  std::vector<SimulatedOperation> operations;  ///< in the order in which the host queues them
  std::vector<OperationTimes> times;           ///< (num_ranks, operations)
  std::vector<OperationCost> costs;            ///< (num_ranks, operations): what was asked for
  std::vector<double> pass_errors;             ///< by pass: OperationCosts::pass_error() of its plan

  [[nodiscard]] bool folded() const { return num_ranks < world; }
  [[nodiscard]] std::size_t at(int rank, std::size_t operation) const {
    return static_cast<std::size_t>(rank) * operations.size() + operation;
  }
  [[nodiscard]] std::span<const OperationTimes> times_of(int rank) const {
    return std::span(times).subspan(at(rank, 0), operations.size());
  }
};

}  // namespace flex
