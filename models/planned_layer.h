#pragma once

#include <cstdint>
#include <optional>

#include "runtime/adaptive_layer.h"
#include "runtime/moe_layer.h"
#include "runtime/recorded_layer.h"

namespace flex {

/// Where a model's MoE layers have their plans from, and who records them. What is pointed to must outlive
/// the model.
struct PlanSource {
  PlanPair plans;                     ///< of all layers and passes, without a policy
  PlanPolicy* policy = nullptr;       ///< chooses layer by layer and pass by pass
  TraceRecorder* recorder = nullptr;  ///< of as many layers as the model has
};

/// One MoE layer of a model with its plans. Collective like MoeLayer.
class PlannedLayer {
 public:
  /// `index` counts the model's MoE layers.
  PlannedLayer(const MoeConfig& config, std::int64_t index, const PlanSource& source, RankContext& context);

  /// As MoeLayer's; `call.plans` does not matter.
  ForwardResult forward(ConstTensorView x, TensorView y, ForwardCall call, Stream& stream);
  void backward(ConstTensorView dy, TensorView dx, double loss_gradient, Stream& stream);

  [[nodiscard]] MoeLayer& layer() { return layer_; }
  [[nodiscard]] const MoeLayer& layer() const { return layer_; }
  /// Of the last forward pass.
  [[nodiscard]] const ForwardResult& last() const { return last_; }

 private:
  PlanPair plans_;
  MoeLayer layer_;
  std::optional<AdaptiveLayer> adaptive_;
  std::optional<RecordedLayer> recorded_;
  ForwardResult last_;
};

}  // namespace flex
