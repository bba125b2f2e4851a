#pragma once

#include <cstdint>

#include "costmodel/layer_load.h"
#include "costmodel/plan_pair.h"

namespace flex {

/// What the passes of one iteration of one layer took: the largest over the ranks, in nanoseconds.
struct PassDurations {
  std::int64_t forward_ns = 0;
  std::int64_t backward_ns = 0;  ///< 0: no backward pass ran

  friend bool operator==(const PassDurations&, const PassDurations&) = default;
};

/// Chooses the plans of a model's layers, iteration by iteration: in training, and in the replay of a trace.
///
/// A policy is a pure function of the calls that it got: ranks that make the same calls get the same plans,
/// without a word between them. It reads neither clocks nor files. For each layer choose() and observe()
/// alternate, but observe() may come late or not at all.
class PlanPolicy {
 public:
  PlanPolicy() = default;
  virtual ~PlanPolicy() = default;
  PlanPolicy(const PlanPolicy&) = delete;
  PlanPolicy& operator=(const PlanPolicy&) = delete;

  /// Legal plans for `layer` (from 0) at this load. In an iteration whose load was seen before: touches
  /// memory only, and allocates nothing.
  [[nodiscard]] virtual PlanPair choose(std::int64_t layer, const LayerLoad& load) = 0;

  /// `layer` ran at `load` with `plans`, which need not be those that were chosen.
  virtual void observe(std::int64_t layer, const LayerLoad& load, const PlanPair& plans,
                       const PassDurations& durations) = 0;

  /// Of everything that later choices depend on: ranks compare it before they trust each other's plans.
  [[nodiscard]] virtual std::uint64_t state_hash() const = 0;
};

}  // namespace flex
