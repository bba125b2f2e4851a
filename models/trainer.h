#pragma once

#include "models/optimizer.h"
#include "models/swinv2_moe.h"

namespace flex {

/// One rank's share of a batch, in host memory, best of Tensor::staging(): B images.
struct ImageBatch {
  ConstTensorView images;  ///< (B, 3, S, S) in the gate's type
  ConstTensorView labels;  ///< (B) i32 in [0, classes); not read if there are targets
  /// (B, classes) in the gate's type, optional: a distribution over the classes for each image, as mixing
  /// images gives. Trusted; label smoothing applies to it too.
  ConstTensorView targets{};
};

/// What one step did; equal on all ranks.
struct StepResult {
  double loss = 0;            ///< cross entropy + moe.loss_weight * auxiliary loss, before the update
  double cross_entropy = 0;   ///< mean over the global batch
  double auxiliary_loss = 0;  ///< sum of the MoE layers'
  double gradient_norm = 0;   ///< before clipping
  double learning_rate = 0;
  double loss_scale = 1;
  bool updated = true;  ///< false: a gradient was not finite, and nothing was changed
};

/// Where a trainer is, beside its tensors; equal on all ranks. Random numbers are functions of seed and step,
/// so that this and the seed are all there is of them.
struct TrainerState {
  std::int64_t step = 0;     ///< steps taken, updates or not: the number of the next one
  std::int64_t updates = 0;  ///< steps that changed something
  double loss_scale = 1;
  int good_steps = 0;  ///< since the loss scale changed or a gradient was not finite
  friend bool operator==(const TrainerState&, const TrainerState&) = default;
};

/// Trains a model on this rank's share of each batch: rank p of W has samples [p B, (p + 1) B) of W B.
/// Collective: every rank makes the same calls.
class Trainer {
 public:
  /// @throws InputError for a configuration that cannot be, or not on this many ranks.
  Trainer(const ModelConfig& model, const TrainingConfig& training, const PlanSource& plans,
          RankContext& context);

  /// One step: forward, loss, backward, reduction, clipping, AdamW. Waits until it is done. After warm-up it
  /// allocates nothing; the first batch with targets is part of the warm-up, since only those who use targets
  /// shall pay for their memory. @throws InputError for another shape, or a label that is no class.
  StepResult step_blocking(const ImageBatch& batch);
  /// Logits (B, classes) in host memory, with the k and f of inference. Valid until the next call.
  ConstTensorView infer_blocking(ConstTensorView images);

  /// Times the operations of steps from now on, those of one rank; null: nobody does.
  void set_clock(OperationClock* clock);
  [[nodiscard]] TrainerState state_blocking();
  /// Goes on from `state`; what the tensors hold is the caller's to restore.
  void restore_blocking(const TrainerState& state);
  [[nodiscard]] RankContext& context() { return context_; }
  [[nodiscard]] SwinV2Moe& model() { return model_; }
  [[nodiscard]] Stream& stream() { return stream_; }
  [[nodiscard]] Optimizer& optimizer() { return optimizer_; }
  [[nodiscard]] const TrainingConfig& training() const { return training_; }
  /// Images of this rank in a step.
  [[nodiscard]] std::int64_t local_batch() const { return model_.options().batch; }
  [[nodiscard]] std::int64_t num_steps() const { return step_; }

 private:
  template <class Work>
  void queue(std::string_view name, const Work& work);
  void check(const ImageBatch& batch) const;
  void check_labels(ConstTensorView labels) const;
  void copy_to_device(const ImageBatch& batch);
  [[nodiscard]] double loss_over_ranks_blocking();

  TrainingConfig training_;
  RankContext& context_;
  Stream stream_;  // the model waits for its work
  Tensor images_, labels_, losses_, loss_, host_loss_, host_logits_, dlogits_;
  Tensor targets_;  // from the first batch with targets on
  SwinV2Moe model_;
  Optimizer optimizer_;
  LossScale loss_scale_;
  OperationClock* clock_ = nullptr;
  std::int64_t step_ = 0;
};

}  // namespace flex
