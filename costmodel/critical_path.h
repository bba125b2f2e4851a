#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "costmodel/simulation.h"

namespace flex {

/// The chain of operations that decided the total: each began when the one before it ended, or when the host
/// had queued it.
struct CriticalPath {
  struct Step {
    std::int32_t rank = 0;
    std::int32_t operation = 0;  ///< index into Simulation::operations

    friend bool operator==(const Step&, const Step&) = default;
  };
  std::vector<Step> steps;                           ///< first to last
  std::array<double, kNumOperationKinds> kind_us{};  ///< by kind; with issue_us they add up to the total
  std::array<double, kNumCostOrigins> origin_us{};   ///< by where durations come from; so do these
  double issue_us = 0;  ///< in which the device had nothing to do until the host had queued the next step
  /// Band of the total, in microseconds: errors of one kind of operation are taken as one error of the model
  /// and added, errors of different kinds as independent, so the root of their squares is. What is composed
  /// wrongly, as slowdowns and chains that are nearly as long, is one more independent error: that of whole
  /// passes, added over them. Where it is 0, nothing but the operations on the path counts.
  double error_us = 0;

  [[nodiscard]] double of(OperationKind kind) const { return kind_us[static_cast<std::size_t>(kind)]; }
};

/// Walks back from the operation that ended last. At a collective it goes on at the member that came last.
/// Where several chains are equally long: the lowest rank, then the own stream before the others.
[[nodiscard]] CriticalPath critical_path(const Simulation& simulation);

/// The same into an existing path, whose memory is used again.
void find_critical_path_into(CriticalPath& path, const Simulation& simulation);

}  // namespace flex
