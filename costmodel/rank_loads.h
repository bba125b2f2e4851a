#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "costmodel/build_schedule.h"
#include "costmodel/operation_cost.h"

namespace flex {

/// What the routing of one pass puts on each rank. Reusable: allocates nothing once it has seen as many
/// experts.
class RankLoads {
 public:
  /// `counts`: (W, E) choices by source rank and expert, before drops; or empty for ranks that are all alike.
  /// Both must live as long as the loads are asked for. `usual_count`: see SimulatedPass.
  /// @throws InputError if there are neither no counts nor W * E, one is negative, a rank's choices are no
  /// multiple of top_k, or its tokens more than the workload's.
  void bind(const Schedule& schedule, std::span<const std::int64_t> counts, std::int64_t usual_count = 0);

  /// Of one operation of the schedule. expert_rows is valid until the next call.
  /// A counted expert computes the slots that any source rank reaches, for all of its source ranks.
  [[nodiscard]] RankLoad of(int rank, const Operation& operation);

 private:
  void check_counts() const;
  void count_expert_rows(int rank, const Operation& operation);
  /// Choices of the fullest source rank for an expert of `rank`, the `e`-th.
  [[nodiscard]] std::int64_t largest_count(int rank, std::int64_t e) const;

  const Schedule* schedule_ = nullptr;
  std::span<const std::int64_t> counts_;
  std::int64_t usual_count_ = 0;
  PlanShape shape_;
  std::vector<std::int64_t> largest_count_;  // by expert, over source ranks
  std::vector<std::int64_t> tokens_;         // by rank
  std::vector<std::int64_t> expert_rows_;
};

}  // namespace flex
