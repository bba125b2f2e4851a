#include "models/planned_layer.h"

namespace flex {

PlannedLayer::PlannedLayer(const MoeConfig& config, std::int64_t index, const PlanSource& source,
                           RankContext& context)
    : plans_(source.plans), layer_(config, context) {
  if (source.policy != nullptr) {
    adaptive_.emplace(layer_, *source.policy, index, context, source.recorder);
  } else if (source.recorder != nullptr) {
    recorded_.emplace(layer_, *source.recorder, index, context);
  }
}

ForwardResult PlannedLayer::forward(ConstTensorView x, TensorView y, ForwardCall call, Stream& stream) {
  call.plans = plans_;
  if (adaptive_) {
    last_ = adaptive_->forward(x, y, call, stream);
  } else if (recorded_) {
    last_ = recorded_->forward(x, y, call, stream);
  } else {
    last_ = layer_.forward(x, y, call, stream);
  }
  return last_;
}

void PlannedLayer::backward(ConstTensorView dy, TensorView dx, double loss_gradient, Stream& stream) {
  if (adaptive_) return adaptive_->backward(dy, dx, loss_gradient, stream);
  if (recorded_) return recorded_->backward(dy, dx, loss_gradient, stream);
  layer_.backward(dy, dx, loss_gradient, stream);
}

}  // namespace flex
