#pragma once

#include "models/swinv2_moe.h"
#include "models/training_config.h"

namespace flex {

/// A model that only infers, on this rank's share of each batch. Collective like the model.
class ImageClassifier {
 public:
  /// Element type, batch and seed are those of `training`. @throws InputError for a configuration that cannot
  /// be, or not on this many ranks.
  ImageClassifier(const ModelConfig& model, const TrainingConfig& training, const PlanSource& plans,
                  RankContext& context);

  /// Logits (B, classes) in host memory for images (B, 3, S, S) in host memory, in the gate's type, with the
  /// k and f of inference. Valid until the next call. After warm-up it allocates nothing.
  ConstTensorView infer_blocking(ConstTensorView images);

  /// Pooled features (B, C of the last stage) of the last infer_blocking(), in host memory: what entered the
  /// linear head. Valid until the next call. The first call allocates.
  /// @throws InputError if nothing was inferred.
  ConstTensorView features_blocking();

  [[nodiscard]] SwinV2Moe& model() { return model_; }
  [[nodiscard]] Stream& stream() { return stream_; }

 private:
  Stream stream_;  // the model waits for its work
  Tensor images_, host_logits_, host_features_;
  SwinV2Moe model_;
  bool inferred_ = false;
};

}  // namespace flex
