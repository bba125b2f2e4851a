#include "models/optimizer.h"

#include <algorithm>

#include "base/require.h"
#include "kernels/nn/adamw.h"
#include "kernels/nn/cast.h"
#include "kernels/nn/gradient_norm.h"

namespace flex {

Optimizer::Optimizer(ModelParameters& parameters, const TrainingConfig& config, RankContext& context)
    : config_(config),
      context_(context),
      dtype_(gate_dtype(config.dtype)),
      shared_gradients_(parameters.shared_gradients()) {
  const Device device = context.device();
  parameters.freeze(config.frozen);
  std::vector<TrainedTensor> tensors;
  Stream stream(device);
  for (const ModelParameter& parameter : parameters.all()) {
    if (!parameter.spec.trained) continue;
    names_.push_back(parameter.spec.name);
    tensors.push_back(trained_tensor(parameter, stream));
  }
  require(!tensors.empty(), "training.frozen: leaves no parameter to train");
  stream.synchronize_blocking();
  tensors_.emplace(std::move(tensors), device);
  sums_ = Tensor::zeros(DType::kF64, {kNumGroups}, device);
  workspace_ =
      Tensor(DType::kU8, {std::max<std::int64_t>(1, squared_norms_workspace_bytes(*tensors_))}, device);
  norm_ = Tensor(DType::kF64, {1}, device);
  scale_ = Tensor(DType::kF64, {1}, device);
  step_ = Tensor::zeros(DType::kI64, {1}, device);
  host_norm_ = Tensor(DType::kF64, {1});
}

TensorView Optimizer::make_state(DType dtype, const Shape& shape) {
  return state_.emplace_back(Tensor::zeros(dtype, shape, context_.device()));
}

TrainedTensor Optimizer::trained_tensor(const ModelParameter& parameter, Stream& stream) {
  const Shape& shape = parameter.value.shape;
  TrainedTensor tensor{.gradient = parameter.gradient,
                       .parameter = parameter.value,
                       .first_moment = make_state(dtype_, shape),
                       .second_moment = make_state(dtype_, shape),
                       .decays = decays(parameter.spec, config_.no_decay),
                       .norm_group = parameter.spec.home == ParameterHome::kExperts ? kSpread : kReplicated};
  if (parameter.value.dtype != dtype_) {
    tensor.narrow = parameter.value;
    tensor.parameter = make_state(dtype_, shape);
    cast({.from = parameter.value, .to = tensor.parameter}, stream);
  }
  if (config_.average_decay > 0) {
    tensor.average = make_state(dtype_, shape);
    cast({.from = tensor.parameter, .to = tensor.average}, stream);
  }
  return tensor;
}

void Optimizer::step(double learning_rate, double loss_scale, Stream& stream) {
  const bool alone = context_.size() == 1;
  for (const TensorView& gradients : shared_gradients_) {
    if (alone || gradients.num_elements() == 0) continue;
    context_.data().all_reduce(gradients.data, gradients.num_elements(), gradients.dtype, ReduceOp::kSum,
                               Traffic::kGate, stream);
  }
  const TensorView groups = sums_.view().narrowed(0, tensors_->num_groups());
  squared_norms({.tensors = &*tensors_, .sums = groups, .workspace = workspace_}, stream);
  if (!alone) {
    const TensorView spread = sums_.view().narrowed(kSpread, 1);
    context_.data().all_reduce(spread.data, 1, spread.dtype, ReduceOp::kSum, Traffic::kGate, stream);
  }
  gradient_scale({.sums = groups,
                  .max_norm = config_.clip_grad_norm,
                  .loss_scale = loss_scale,
                  .norm = norm_,
                  .scale = scale_},
                 stream);
  adamw({.tensors = &*tensors_,
         .learning_rate = learning_rate,
         .weight_decay = config_.weight_decay,
         .beta1 = config_.beta1,
         .beta2 = config_.beta2,
         .epsilon = config_.epsilon,
         .average_decay = config_.average_decay,
         .scale = scale_,
         .step = step_},
        stream);
}

double Optimizer::gradient_norm_blocking() {
  copy_blocking(host_norm_, norm_);
  return host_norm_.as<double>()[0];
}

std::int64_t Optimizer::num_steps_blocking() {
  Tensor host(DType::kI64, {1});
  copy_blocking(host, step_);
  return host.as<std::int64_t>()[0];
}

void Optimizer::set_num_steps_blocking(std::int64_t num_steps) {
  Tensor host(DType::kI64, {1});
  host.as<std::int64_t>()[0] = num_steps;
  copy_blocking(step_, host);
}

const TrainedTensor* Optimizer::find(std::string_view name) const {
  const auto found = std::ranges::find(names_, name);
  return found == names_.end() ? nullptr
                               : &tensors_->tensors()[static_cast<std::size_t>(found - names_.begin())];
}

void Optimizer::adopt_parameters_blocking() {
  Stream stream(context_.device());
  for (const TrainedTensor& tensor : tensors_->tensors()) {
    if (tensor.narrow.present()) cast({.from = tensor.narrow, .to = tensor.parameter}, stream);
    if (tensor.average.present()) cast({.from = tensor.parameter, .to = tensor.average}, stream);
  }
  stream.synchronize_blocking();
}

ConstTensorView Optimizer::average(std::string_view name) const {
  const TrainedTensor* tensor = find(name);
  require(tensor != nullptr, "no trained parameter is called '{}'", name);
  require(tensor->average.present(), "no moving average is kept of '{}'; set training.average_decay", name);
  return tensor->average;
}

std::int64_t Optimizer::state_bytes() const {
  std::int64_t bytes = 0;
  for (const Tensor& tensor : state_) bytes += tensor.bytes();
  return bytes;
}

void LossScale::restore(double value, int good_steps) {
  if (!dynamic_) return;
  value_ = value;
  good_steps_ = good_steps;
}

void LossScale::update(bool finite) {
  constexpr double kFactor = 2;
  if (!dynamic_) return;
  good_steps_ = finite ? good_steps_ + 1 : 0;
  if (!finite) value_ /= kFactor;
  if (good_steps_ < kGrowthSteps) return;
  good_steps_ = 0;
  value_ *= kFactor;
}

}  // namespace flex
