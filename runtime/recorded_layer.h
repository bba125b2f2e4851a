#pragma once

#include <cstdint>

#include "runtime/moe_layer.h"
#include "runtime/trace_recorder.h"

namespace flex {

/// A layer whose passes are recorded, with the plans that its calls bring. Collective like MoeLayer, and as
/// free of allocation after warm-up; once in a step one exchange of host numbers more. forward() waits on the
/// host until the stream has come to the end of this layer's last pass; what was queued behind it goes on
/// meanwhile.
class RecordedLayer {
 public:
  /// `layer` and `recorder` must outlive it. Layers of one model share a recorder and differ in `index`, from
  /// 0: their place in its header. @throws InputError as TraceRecorder::attach().
  RecordedLayer(MoeLayer& layer, TraceRecorder& recorder, std::int64_t index, RankContext& context);

  /// As MoeLayer's. @throws what it throws, and what a failed stream holds of the last pass, which ends the
  /// peers' calls, too.
  ForwardResult forward(ConstTensorView x, TensorView y, const ForwardCall& call, Stream& stream);
  /// As MoeLayer's.
  void backward(ConstTensorView dy, TensorView dx, double loss_gradient, Stream& stream);

  [[nodiscard]] MoeLayer& layer() { return layer_; }

 private:
  void begin_forward_blocking();

  MoeLayer& layer_;
  TraceRecorder& recorder_;
  std::int64_t index_;
  RankContext& context_;
  PassTimers timers_;
};

}  // namespace flex
