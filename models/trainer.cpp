#include "models/trainer.h"

#include <cmath>

#include "base/require.h"
#include "kernels/host_element.h"
#include "kernels/nn/cross_entropy.h"

namespace flex {
Trainer::Trainer(const ModelConfig& model, const TrainingConfig& training, const PlanSource& plans,
                 RankContext& context)
    : training_((validate(training, context.size()), training)),
      context_(context),
      stream_(context.device()),
      model_(model,
             {.dtype = training.dtype,
              .batch = training.batch_size / context.size(),
              .seed = training.seed,
              .plans = plans},
             context),
      optimizer_(model_.parameters(), training, context),
      loss_scale_(training) {
  const Device device = context.device();
  const DType wide = gate_dtype(training.dtype);
  const std::int64_t batch = local_batch();
  images_ = Tensor(wide, {batch, ModelConfig::kImageChannels, model.image_size, model.image_size}, device);
  labels_ = Tensor(DType::kI32, {batch}, device);
  losses_ = Tensor(wide, {batch}, device);
  loss_ = Tensor(wide, {1}, device);
  host_loss_ = Tensor(wide, {1});
  host_logits_ = Tensor::staging(training.dtype, {batch, model.num_classes}, device);
  dlogits_ = Tensor(training.dtype, {batch, model.num_classes}, device);
}

void Trainer::check(const ImageBatch& batch) const {
  require(batch.images.shape == images_.shape() && batch.images.dtype == images_.dtype(),
          "Trainer: images are {} {}, expected {} {}", name(batch.images.dtype),
          to_string(batch.images.shape), name(images_.dtype()), to_string(images_.shape()));
  if (!batch.targets.present()) return check_labels(batch.labels);
  const Shape& expected = dlogits_.shape();
  require(batch.targets.shape == expected && batch.targets.dtype == images_.dtype(),
          "Trainer: targets are {} {}, expected {} {}", name(batch.targets.dtype),
          to_string(batch.targets.shape), name(images_.dtype()), to_string(expected));
}

void Trainer::check_labels(ConstTensorView labels) const {
  require(labels.shape == labels_.shape() && labels.dtype == DType::kI32,
          "Trainer: labels are {} {}, expected i32 {}", name(labels.dtype), to_string(labels.shape),
          to_string(labels_.shape()));
  for (std::int64_t i = 0; i < labels_.num_elements(); ++i) {
    const std::int32_t label = labels.as<std::int32_t>()[i];
    require(label >= 0 && label < model_.config().num_classes,
            "Trainer: sample {} has label {}; classes are 0 to {}", i, label,
            model_.config().num_classes - 1);
  }
}

void Trainer::set_clock(OperationClock* clock) {
  clock_ = clock;
  model_.set_clock(clock);
}

template <class Work>
void Trainer::queue(std::string_view name, const Work& work) {
  if (clock_ != nullptr) clock_->begin(name, stream_);
  work();
  if (clock_ != nullptr) clock_->end(stream_);
}

void Trainer::copy_to_device(const ImageBatch& batch) {
  copy(images_, batch.images, stream_);
  if (!batch.targets.present()) return copy(labels_, batch.labels, stream_);
  if (targets_.num_elements() == 0) targets_ = Tensor(images_.dtype(), dlogits_.shape(), images_.device());
  copy(targets_, batch.targets, stream_);
}

StepResult Trainer::step_blocking(const ImageBatch& batch) {
  check(batch);
  copy_to_device(batch);
  const bool has_targets = batch.targets.present();
  const ModelConfig& config = model_.config();
  StepResult result{.learning_rate = learning_rate_at(training_, step_), .loss_scale = loss_scale_.value()};
  const TensorView logits = model_.forward(images_, true, static_cast<std::uint64_t>(step_), stream_);
  const CrossEntropyArgs loss{.logits = logits,
                              .labels = has_targets ? ConstTensorView{} : labels_,
                              .targets = has_targets ? ConstTensorView(targets_) : ConstTensorView{},
                              .label_smoothing = training_.label_smoothing,
                              .batch = training_.batch_size,
                              .losses = losses_,
                              .loss = loss_,
                              .dlogits = dlogits_,
                              .dloss = result.loss_scale};
  queue("cross_entropy", [&] {
    if (clock_ != nullptr) clock_->add(work_of(loss));
    cross_entropy(loss, stream_);
  });
  model_.backward(dlogits_, config.moe.loss_weight * result.loss_scale, stream_);
  queue("optimizer", [&] {
    if (clock_ != nullptr) clock_->add(optimizer_.work());
    optimizer_.step(result.learning_rate, result.loss_scale, stream_);
  });
  result.cross_entropy = loss_over_ranks_blocking();
  result.auxiliary_loss = model_.auxiliary_loss_blocking();
  result.loss = result.cross_entropy + config.moe.loss_weight * result.auxiliary_loss;
  result.gradient_norm = optimizer_.gradient_norm_blocking();
  result.updated = std::isfinite(result.gradient_norm);
  loss_scale_.update(result.updated);
  ++step_;
  return result;
}

TrainerState Trainer::state_blocking() {
  return {.step = step_,
          .updates = optimizer_.num_steps_blocking(),
          .loss_scale = loss_scale_.value(),
          .good_steps = loss_scale_.good_steps()};
}

void Trainer::restore_blocking(const TrainerState& state) {
  step_ = state.step;
  optimizer_.set_num_steps_blocking(state.updates);
  loss_scale_.restore(state.loss_scale, state.good_steps);
}

double Trainer::loss_over_ranks_blocking() {
  if (context_.size() > 1) {
    context_.data().all_reduce(loss_.view().data, 1, loss_.dtype(), ReduceOp::kSum, Traffic::kOther, stream_);
  }
  stream_.synchronize_blocking();
  copy_blocking(host_loss_, loss_);
  return host_element(host_loss_, 0);
}

ConstTensorView Trainer::infer_blocking(ConstTensorView images) {
  return flex::infer_blocking(model_, images, images_, host_logits_, stream_);
}

}  // namespace flex
