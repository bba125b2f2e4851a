#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "costmodel/cost_model.h"
#include "costmodel/critical_path.h"
#include "costmodel/layer_memory.h"
#include "costmodel/pass_sequence.h"

namespace flex {

/// Kinds of operations that people look at together.
enum class OperationClass : std::uint8_t {
  kGating,    ///< gate, routing, losses, and their gradients
  kMoving,    ///< encode, decode, row orders, sums of copies
  kExperts,   ///< the experts' products
  kExchange,  ///< tokens between ranks, 2DH's copies included
  kWeights,   ///< gathers and reduce-scatters of expert weights, all-reduces of gradients
  kHost,      ///< agreement, and waiting until the host has queued what comes next
};
inline constexpr int kNumOperationClasses = static_cast<int>(OperationClass::kHost) + 1;
/// `gating`, `moving`, `experts`, `exchange`, `weights`, `host`.
[[nodiscard]] std::string_view name(OperationClass operation_class);
[[nodiscard]] OperationClass class_of(OperationKind kind);

/// What a stack of layers takes with one pair of plans.
struct PlanPrediction {
  Plan forward;
  Plan backward;  ///< the forward plan where nothing but forward was asked for
  double total_us = 0;
  double error_us = 0;                                  ///< band, see CriticalPath::error_us
  std::array<double, kNumOperationClasses> class_us{};  ///< of the critical path: they add up to the total
  std::array<double, kNumCostOrigins> origin_us{};      ///< so do these, but for the host's queueing
  std::int64_t memory_bytes = 0;  ///< peak of one rank: all layers, tokens, and the base
  bool fits = true;               ///< into the device's memory, where that is known

  [[nodiscard]] double of(OperationClass c) const { return class_us[static_cast<std::size_t>(c)]; }
};

/// Predicts plans of one stack of layers. Holds memory that is used again: several predictions cost what
/// their simulations do.
class PlanPredictor {
 public:
  /// `stack.forward` and `stack.backward` are ignored. `costs` must live as long.
  PlanPredictor(LayerStack stack, const CostModel& costs);

  /// @throws InputError for plans that cannot run, and counted ones: what they save depends on token counts,
  /// which a workload alone does not have.
  [[nodiscard]] PlanPrediction predict(const Plan& forward, const Plan& backward);
  /// Every legal padded plan, with the same one in both passes, fastest first; those that do not fit come
  /// last.
  [[nodiscard]] std::vector<PlanPrediction> all();
  /// The fastest pair of padded plans that fits: forward and backward share r, their d and all-to-all are
  /// chosen apart, by the time that each pass takes alone. The fastest of all if none fits. Never slower than
  /// all().front().
  [[nodiscard]] PlanPrediction best();
  /// The timeline of one pair.
  [[nodiscard]] Simulation timeline(const Plan& forward, const Plan& backward);

 private:
  [[nodiscard]] std::vector<Plan> padded_plans() const;
  [[nodiscard]] double total_us(Passes passes, const Plan& plan);
  [[nodiscard]] LayerStack with(const Plan& forward, const Plan& backward) const;

  LayerStack stack_;
  const CostModel& costs_;
  PassSequence sequence_;
  Simulator simulator_;
  CriticalPath path_;
};

/// What the stack takes in Fairseq's formulation, with no overlap and the default plan.
struct BaselinePrediction {
  double total_us = 0;
  std::int64_t memory_bytes = 0;  ///< of one rank in training, with AdamW's moments, see framework_memory()
  bool fits = true;
};
[[nodiscard]] BaselinePrediction predict_fairseq(const LayerStack& stack, const CostModel& costs);

}  // namespace flex
