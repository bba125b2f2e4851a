#include "runtime/recorded_layer.h"

#include <fmt/format.h>

#include <exception>

namespace flex {

RecordedLayer::RecordedLayer(MoeLayer& layer, TraceRecorder& recorder, std::int64_t index,
                             RankContext& context)
    : layer_(layer), recorder_(recorder), index_(index), context_(context), timers_(context.device()) {
  recorder_.attach(index, layer, timers_);
}

void RecordedLayer::begin_forward_blocking() {
  try {
    static_cast<void>(recorder_.begin_forward_blocking(index_));
  } catch (const std::exception& error) {
    context_.abort(fmt::format("rank {} failed: the last pass of layer {}: {}", context_.rank(), index_,
                               error.what()));  // peers must not wait for this rank
    throw;
  }
  recorder_.exchange_blocking();
}

ForwardResult RecordedLayer::forward(ConstTensorView x, TensorView y, const ForwardCall& call,
                                     Stream& stream) {
  begin_forward_blocking();
  ForwardCall kept = call;
  kept.keep_counts = true;
  timers_.start_forward(stream);
  const ForwardResult result = layer_.forward(x, y, kept, stream);
  timers_.stop_forward(stream);
  recorder_.end_forward(index_, kept, result);
  return result;
}

void RecordedLayer::backward(ConstTensorView dy, TensorView dx, double loss_gradient, Stream& stream) {
  timers_.start_backward(stream);
  layer_.backward(dy, dx, loss_gradient, stream);
  timers_.stop_backward(stream);
  recorder_.end_backward(index_);
}

}  // namespace flex
