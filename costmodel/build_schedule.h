#pragma once

#include "costmodel/cluster.h"
#include "costmodel/schedule.h"

namespace flex {

/// The operations of one part of `workload`'s pass under `plan`: the only place that decides order, streams
/// and dependencies. Route: forward only (the gate's backward pass belongs to the expert part). `plan` does
/// not change it.
/// @throws InputError if the workload is invalid or the plan cannot run, with the reason of why_illegal().
/// @source numerics.md "Parallelism", "Flexible All-to-All", "Pipelining"
[[nodiscard]] Schedule build_schedule(Part part, const Workload& workload, const Plan& plan,
                                      const Cluster& cluster);

/// The same into an existing schedule, whose memory is used again: allocates nothing once it has held as many
/// operations.
void build_schedule_into(Schedule& schedule, Part part, const Workload& workload, const Plan& plan,
                         const Cluster& cluster);

/// The exchange and weight groups that a plan uses, derived in one place.
struct PlanShape {
  std::int64_t copies = 1;        ///< token copies that leave a rank: r (0 when tokens stay)
  std::int64_t parts = 1;         ///< parts of an expert's slots: ranks of a weight group, s / r
  std::int64_t weight_group = 1;  ///< ranks that gather weights together: s / r, or W for r = 0
  std::int64_t columns = 0;       ///< hidden columns of an expert that a rank computes with: H / r, or H
  std::int64_t experts = 1;       ///< experts that a rank computes: its own, or all for r = 0
  std::int64_t sources = 1;       ///< ranks whose tokens it computes: W, or itself for r = 0
  std::int64_t part_slots = 0;    ///< slots that a rank gets from each source for each of its experts
  bool exchanges = false;         ///< an All-to-All is needed
  bool gathers = false;           ///< weights are gathered
  /// Nothing travels and there is one chunk: gradients take the place of what they are gradients of, the
  /// second layer's weight gradients being computed first.
  bool in_place_gradients = false;

  [[nodiscard]] std::int64_t rows() const { return sources * part_slots; }  ///< rows of one expert
};
[[nodiscard]] PlanShape plan_shape(const Workload& workload, const Plan& plan);

}  // namespace flex
