#pragma once

#include <optional>
#include <vector>

#include "kernels/nn/trained_tensors.h"
#include "models/kernel_work.h"
#include "models/model_parameters.h"
#include "models/training_config.h"
#include "runtime/rank_context.h"

namespace flex {

/// AdamW over all parameters of a model on this rank, with one gradient norm over the model and all ranks.
///
/// Shared parameters stay alike on all ranks: their gradients are reduced first, the experts' part of the
/// norm is reduced before the norm is formed, and sums over ranks are taken in rank order, so that every rank
/// multiplies equal gradients by equal bits. Collective; allocates nothing.
class Optimizer {
 public:
  /// `parameters` must outlive it; those that `config.frozen` names are trained no more. With fp16 or bf16
  /// it keeps fp32 copies of what is trained. Blocking. @throws InputError as ModelParameters::freeze(), or
  /// if nothing is left to train.
  Optimizer(ModelParameters& parameters, const TrainingConfig& config, RankContext& context);

  /// Queues one step from this rank's gradients, which are `loss_scale` times those of the loss. Gradients
  /// that are not finite, on any rank, change nothing, on all ranks.
  void step(double learning_rate, double loss_scale, Stream& stream);

  /// Norm of all trained parameters' gradients in the last step, before clipping; not finite if the step
  /// changed nothing. The stream must have run the step.
  [[nodiscard]] double gradient_norm_blocking();
  /// Steps that changed something.
  [[nodiscard]] std::int64_t num_steps_blocking();
  void set_num_steps_blocking(std::int64_t num_steps);
  /// What is kept of a parameter on this rank; null if it is not trained.
  [[nodiscard]] const TrainedTensor* find(std::string_view name) const;
  /// After parameters were changed from outside: fp32 copies and averages begin anew from them. Moments stay.
  void adopt_parameters_blocking();
  /// This rank's moving average of a parameter, in the optimizer's type. @throws InputError if none is kept.
  [[nodiscard]] ConstTensorView average(std::string_view name) const;
  /// The least that a step can do on this rank, reductions left out.
  [[nodiscard]] KernelWork work() const { return optimizer_work(*tensors_); }
  /// Bytes of moments, averages and fp32 copies.
  [[nodiscard]] std::int64_t state_bytes() const;

 private:
  /// Norm groups: what every rank has, and what is spread over the ranks.
  enum Group : int { kReplicated, kSpread, kNumGroups };

  [[nodiscard]] TrainedTensor trained_tensor(const ModelParameter& parameter, Stream& stream);
  [[nodiscard]] TensorView make_state(DType dtype, const Shape& shape);

  TrainingConfig config_;
  RankContext& context_;
  DType dtype_;  // of moments and of what is trained
  std::vector<Tensor> state_;
  std::vector<std::string> names_;  // of the tensors, in order
  std::vector<TensorView> shared_gradients_;
  std::optional<TrainedTensors> tensors_;
  Tensor sums_, workspace_, norm_, scale_, step_;
  Tensor host_norm_;
};

/// The factor of the loss that keeps fp16 gradients in range. All ranks see the same norm, so that they
/// decide alike. @source Micikevicius et al., "Mixed Precision Training"
class LossScale {
 public:
  /// Good steps after which a dynamic scale doubles.
  static constexpr int kGrowthSteps = 2000;

  explicit LossScale(const TrainingConfig& config)
      : value_(config.loss_scale), dynamic_(config.dynamic_loss_scale) {}

  [[nodiscard]] double value() const { return value_; }
  [[nodiscard]] int good_steps() const { return good_steps_; }
  /// After a step whose gradients were all finite, or not.
  void update(bool finite);
  /// Goes on from where another one was. One that is not dynamic keeps its value.
  void restore(double value, int good_steps);

 private:
  double value_;
  bool dynamic_;
  int good_steps_ = 0;
};

}  // namespace flex
