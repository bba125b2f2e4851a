#pragma once

#include <cstdint>

#include "costmodel/build_schedule.h"
#include "costmodel/cost_model.h"
#include "costmodel/layer_memory.h"
#include "costmodel/pass_sequence.h"
#include "costmodel/simulator.h"

namespace flex {

/// How a layer is computed by software that Flex is compared with.
struct Formulation {
  /// Encode and decode as dense products with a mask of tokens by experts by slots.
  bool einsum = false;
  /// Experts get what came from all sources as one matrix; otherwise one product for each source, of C rows.
  bool flexible_layout = true;
  /// One stream for all: nothing overlaps, whatever the plan.
  bool one_stream = false;

  friend bool operator==(const Formulation&, const Formulation&) = default;
};

/// Fairseq and DeepSpeed as published: GShard's einsums, one product for each source, no overlap. Their plan
/// is kDefaultPlan. @source Lepikhin et al., "GShard", algorithm 2; Hwang et al., "Tutel", section 4
inline constexpr Formulation kFairseq{.einsum = true, .flexible_layout = false, .one_stream = true};

/// What operations of Flex's schedules cost in another formulation. `costs` must live as long.
class BaselineCosts final : public OperationCosts {
 public:
  BaselineCosts(const CostModel& costs, const Formulation& formulation)
      : costs_(costs), formulation_(formulation) {}

  [[nodiscard]] OperationCost cost(const Schedule& schedule, std::size_t index,
                                   const RankLoad& load) const override;
  [[nodiscard]] OverlapSlowdown overlap(AllToAllAlgorithm algorithm) const override {
    return formulation_.one_stream ? OverlapSlowdown{} : costs_.overlap(algorithm);
  }
  [[nodiscard]] double pass_error(AllToAllAlgorithm algorithm) const override {
    return costs_.pass_error(algorithm);
  }

 private:
  const CostModel& costs_;
  Formulation formulation_;
};

/// All operations on one stream, in their order: the schedule of a formulation with one_stream.
[[nodiscard]] Schedule in_one_stream(const Schedule& schedule);

/// The pass(es) of one layer or a stack in a formulation: simulates PassSequence's schedules with
/// BaselineCosts. @throws InputError as they do.
[[nodiscard]] Simulation simulate_formulation(const LayerStack& stack, const Formulation& formulation,
                                              const CostModel& costs);

/// GShard's encode or decode of one pass: products with the mask and what makes it; durations without error.
/// `kind`: kEncode, kDecode, kDecodeBackward or kEncodeBackward.
[[nodiscard]] double einsum_us(const OperationRoofline& roofline, OperationKind kind,
                               const Workload& workload, std::int64_t num_tokens);

/// Bytes that one rank's framework holds while it trains one layer: what published tables of memory count.
struct FrameworkMemory {
  std::int64_t state_bytes = 0;       ///< parameters, gradients and two moments of AdamW
  std::int64_t activation_bytes = 0;  ///< tokens, slots, hidden rows, outputs
  std::int64_t mask_bytes = 0;        ///< at the moment of the peak; einsum only
  std::int64_t base_bytes = 0;        ///< context, libraries, workspaces

  [[nodiscard]] std::int64_t total_bytes() const {
    return state_bytes + activation_bytes + mask_bytes + base_bytes;
  }
};

/// At the peak of the forward pass of a training step with W = 1 or more, r = 1, d = 1.
/// @param base_GiB CostParameters::base_memory_GiB
[[nodiscard]] FrameworkMemory framework_memory(const Workload& workload, const Formulation& formulation,
                                               double base_GiB);

}  // namespace flex
