#include "runtime/curve_trainer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/require.h"

namespace flex {

CurveTrainer::CurveTrainer(const TrainingCurve& curve, RankContext& context, TraceRecorder* recorder)
    : curve_(curve),
      context_(context),
      rows_(curve.batch / context.size()),
      first_row_(context.rank() * rows_),
      stream_(context.device()),
      layer_(curve.layer.config, context) {
  require(curve.batch % context.size() == 0, "a batch of {} does not spread over {} ranks", curve.batch,
          context.size());
  load_parameters(curve.layer, layer_);
  if (recorder != nullptr) recorded_.emplace(layer_, *recorder, 0, context);
  const Shape shape = {rows_ * curve.sequence, curve.layer.config.model_dim};
  for (Tensor* tensor : {&x_, &y_, &dy_, &dx_}) *tensor = Tensor(DType::kF32, shape, context.device());
  host_y_ = Tensor(DType::kF32, shape);
  host_dy_ = Tensor(DType::kF32, shape);
  loss_ = Tensor(DType::kF64, {1}, context.device());
  Tensor host_x(DType::kF32, shape);
  std::memcpy(host_x.as<float>(), curve.x.data() + first_row_ * curve.sequence * shape[1],
              static_cast<std::size_t>(host_x.bytes()));
  copy_blocking(x_, host_x);
  for (const Parameter& parameter : layer_.parameters().all()) {
    host_parameters_.emplace_back(Tensor(DType::kF32, parameter.value.shape()),
                                  Tensor(DType::kF32, parameter.value.shape()));
    copy_blocking(host_parameters_.back().first, parameter.value);
  }
}

double CurveTrainer::step(const ForwardCall& call) {
  forward(call);
  stream_.synchronize_blocking();
  copy_blocking(host_y_, y_);
  Tensor loss(DType::kF64, {1});
  loss.as<double>()[0] = loss_and_gradient();
  copy_blocking(dy_, host_dy_);
  copy_blocking(loss_, loss);
  backward();
  if (context_.size() > 1) {
    context_.data().all_reduce(loss_.view().data, 1, DType::kF64, ReduceOp::kSum, Traffic::kOther, stream_);
  }
  stream_.synchronize_blocking();
  copy_blocking(loss, loss_);
  update();
  return loss.as<double>()[0];
}

void CurveTrainer::forward(const ForwardCall& call) {
  static_cast<void>(recorded_ ? recorded_->forward(x_, y_, call, stream_)
                              : layer_.forward(x_, y_, call, stream_));
}

void CurveTrainer::backward() {
  if (recorded_) {
    recorded_->backward(dy_, dx_, curve_.aux_weight, stream_);
  } else {
    layer_.backward(dy_, dx_, curve_.aux_weight, stream_);
  }
}

double CurveTrainer::loss_and_gradient() {
  const std::int64_t sequence = curve_.sequence;
  const std::int64_t model_dim = host_y_.shape()[1];
  const double by_batch = 1.0 / static_cast<double>(curve_.batch);
  std::vector<double> scores(static_cast<std::size_t>(sequence));
  double loss = 0;
  for (std::int64_t row = 0; row < rows_; ++row) {
    const float* output = host_y_.as<float>() + row * sequence * model_dim;
    for (std::int64_t s = 0; s < sequence; ++s) {
      double sum = 0;
      for (std::int64_t c = 0; c < model_dim; ++c) sum += static_cast<double>(output[s * model_dim + c]);
      scores[static_cast<std::size_t>(s)] = sum;
    }
    const double largest = *std::ranges::max_element(scores);
    double total = 0;
    for (const double score : scores) total += std::exp(score - largest);
    const auto label = static_cast<std::size_t>(curve_.labels[static_cast<std::size_t>(first_row_ + row)]);
    loss += (largest + std::log(total) - scores[label]) * by_batch;
    for (std::int64_t s = 0; s < sequence; ++s) {
      const auto index = static_cast<std::size_t>(s);
      const double probability = std::exp(scores[index] - largest) / total;
      const double gradient = (probability - (index == label ? 1.0 : 0.0)) * by_batch;
      float* dy = host_dy_.as<float>() + (row * sequence + s) * model_dim;
      std::fill(dy, dy + model_dim, static_cast<float>(gradient));
    }
  }
  return loss;
}

void CurveTrainer::update() {
  const auto rate = static_cast<float>(curve_.learning_rate);
  std::size_t index = 0;
  for (Parameter& parameter : layer_.parameters().all()) {
    auto& [value, gradient] = host_parameters_[index++];
    if (!parameter.trained) continue;
    copy_blocking(gradient, parameter.gradient);
    for (std::int64_t i = 0; i < value.num_elements(); ++i)
      value.as<float>()[i] -= rate * gradient.as<float>()[i];
    copy_blocking(parameter.value, value);
  }
}

}  // namespace flex
