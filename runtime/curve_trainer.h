#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/layer_file.h"
#include "runtime/moe_layer.h"
#include "runtime/recorded_layer.h"

namespace flex {

/// Trains the layer of a TrainingCurve on this rank's share of the batch: rank p of W holds rows [p*B/W,
/// (p+1)*B/W).
class CurveTrainer {
 public:
  /// Collective. @throws InputError unless the batch divides by the ranks. `curve` must outlive it, and so
  /// must `recorder` (null: none), which records it as layer 0.
  CurveTrainer(const TrainingCurve& curve, RankContext& context, TraceRecorder* recorder = nullptr);

  /// What the file says; the caller changes plans or the capacity.
  [[nodiscard]] const ForwardCall& call() const { return curve_.layer.call; }
  /// One step: forward, loss, backward, SGD update. Returns the loss over the global batch before the update.
  /// Blocking.
  double step(const ForwardCall& call);
  [[nodiscard]] MoeLayer& layer() { return layer_; }

 private:
  void forward(const ForwardCall& call);
  void backward();
  double loss_and_gradient();
  void update();

  const TrainingCurve& curve_;
  RankContext& context_;
  std::int64_t rows_;  // of the batch, on this rank
  std::int64_t first_row_;
  Tensor x_, y_, dy_, dx_;
  Tensor host_y_, host_dy_;
  Tensor loss_;                                             // (1) fp64 on the device
  std::vector<std::pair<Tensor, Tensor>> host_parameters_;  // value and gradient, in the layer's order
  Stream stream_;
  MoeLayer layer_;  // it waits for its work, which uses the rest
  std::optional<RecordedLayer> recorded_;
};

}  // namespace flex
