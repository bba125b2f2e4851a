#include "models/verify_model.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <optional>

#include "base/require.h"
#include "kernels/host_element.h"
#include "kernels/nn/cross_entropy.h"
#include "models/reference_batches.h"
#include "runtime/launch.h"

namespace flex {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::chrono::milliseconds kDeadline{60000};
constexpr std::string_view kGradient = "grad.";
constexpr std::string_view kLosses = "train_losses";

std::vector<double> values_of(ConstTensorView view) {
  Tensor host(view.dtype, view.shape);
  copy_blocking(host, view);
  std::vector<double> values(static_cast<std::size_t>(view.num_elements()));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = host_element(host, static_cast<std::int64_t>(i));
  return values;
}

std::vector<double> values_of(const SafetensorsTensor& tensor) {
  const std::vector<float> values = tensor.values<float>();
  return {values.begin(), values.end()};
}

double largest(const std::vector<double>& values) {
  double result = 0;
  for (const double value : values) result = std::max(result, std::abs(value));
  return result;
}

double norm_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return std::sqrt(sum);
}

// Over the largest magnitude of what is expected.
double relative_error(const std::vector<double>& actual, const std::vector<double>& expected) {
  if (actual.size() != expected.size()) return kInfinity;
  double error = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::abs(actual[i] - expected[i]);
    error = std::max(error, std::isnan(difference) ? kInfinity : difference);
  }
  return error == 0 ? 0 : error / std::max(largest(expected), std::numeric_limits<double>::min());
}

/// Forward and backward of the first batch beside the file.
class FirstBatch {
 public:
  FirstBatch(const ReferenceModel& reference, DType dtype, RankContext& context)
      : reference_(reference),
        dtype_(dtype),
        stream_(context.device()),
        model_(reference.model, {.dtype = dtype, .batch = reference.training.batch_size}, context) {
    load_reference_parameters(reference, dtype, model_.parameters());
    for (const SafetensorsTensor* tensor : reference.expected) {
      if (tensor->name.starts_with(kGradient))
        largest_gradient_ = std::max(largest_gradient_, largest(values_of(*tensor)));
    }
    run_blocking(context.device());
  }

  /// Nothing for a tensor that is not of this batch.
  std::optional<VerifiedOutput> compare(const SafetensorsTensor& expected) {
    constexpr std::string_view kStage = "stage";
    const std::string& name = expected.name;
    if (name.starts_with(kGradient)) return compare_gradient(expected);
    if (name == "logits") return output(expected, values_of(logits_));
    if (name == "loss") return output(expected, {loss_});
    if (name == "aux")
      return output(expected,
                    {auxiliary_ * (reference_.aux_is_weighted ? reference_.model.moe.loss_weight : 1)});
    for (std::int64_t stage = 0; stage < ModelConfig::kNumStages; ++stage) {
      if (name == fmt::format("{}{}", kStage, stage))
        return output(expected, values_of(model_.stage_output(stage)));
    }
    return std::nullopt;
  }

 private:
  void run_blocking(Device device) {
    const ReferenceBatches batches(reference_, dtype_, 1, 0);
    const ImageBatch batch = batches.at(0);
    Tensor images(batch.images.dtype, batch.images.shape, device);
    Tensor labels(DType::kI32, batch.labels.shape, device);
    copy_blocking(images, batch.images);
    copy_blocking(labels, batch.labels);
    Tensor losses(gate_dtype(dtype_), {batch.labels.size(0)}, device);
    Tensor loss(gate_dtype(dtype_), {1}, device);
    logits_ = model_.forward(images, true, 0, stream_);
    Tensor dlogits(dtype_, logits_.shape, device);
    cross_entropy({.logits = logits_, .labels = labels, .losses = losses, .loss = loss, .dlogits = dlogits},
                  stream_);
    model_.backward(dlogits, reference_.model.moe.loss_weight, stream_);
    stream_.synchronize_blocking();
    auxiliary_ = model_.auxiliary_loss_blocking();
    loss_ = values_of(loss)[0] + reference_.model.moe.loss_weight * auxiliary_;
  }

  static VerifiedOutput output(const SafetensorsTensor& expected, const std::vector<double>& actual) {
    return {expected.name, relative_error(actual, values_of(expected)), kLogitsTolerance};
  }

  VerifiedOutput compare_gradient(const SafetensorsTensor& expected) {
    const ModelParameter& parameter = model_.parameters().at(expected.name.substr(kGradient.size()));
    std::vector<double> actual = values_of(parameter.gradient);
    const std::vector<double> reference = values_of(expected);
    // A gradient may be given by its norm alone.
    if (reference.size() == 1 && actual.size() > 1) actual = {norm_of(actual)};
    const double scale = std::max(largest(reference), std::numeric_limits<double>::min());
    return {expected.name, relative_error(actual, reference),
            kGradientTolerance + kFileGradientTolerance * largest_gradient_ / scale};
  }

  const ReferenceModel& reference_;
  DType dtype_;
  Stream stream_;
  SwinV2Moe model_;
  TensorView logits_;
  double loss_ = 0;
  double auxiliary_ = 0;
  double largest_gradient_ = 0;
};

VerifiedCase verify_first_batch(const ReferenceModel& reference, DType dtype, RankContext& context) {
  VerifiedCase verified{.name = reference.model.name};
  FirstBatch batch(reference, dtype, context);
  for (const SafetensorsTensor* expected : reference.expected) {
    if (expected->name == kLosses) continue;
    if (const auto output = batch.compare(*expected)) {
      verified.outputs.push_back(*output);
    } else {
      verified.uncompared.push_back(expected->name);
    }
  }
  return verified;
}

VerifiedCase verify_training(const ReferenceModel& reference, const SafetensorsTensor& losses, DType dtype,
                             RankContext& context) {
  TrainingConfig training = reference.training;
  training.dtype = dtype;
  Trainer trainer(reference.model, training, {}, context);
  load_reference_parameters(reference, dtype, trainer.model().parameters());
  const ReferenceBatches batches(reference, dtype, 1, 0);
  const std::vector<double> expected = values_of(losses);
  double worst = 0;
  for (std::size_t step = 0; step < expected.size(); ++step) {
    const double loss = trainer.step_blocking(batches.at(static_cast<std::int64_t>(step))).loss;
    const double error = std::abs(loss - expected[step]) / std::abs(expected[step]);
    worst = std::max(worst, std::isfinite(error) ? error : kInfinity);
  }
  return {.name = fmt::format("{}, {} steps", reference.model.name, expected.size()),
          .outputs = {{std::string(kLosses), worst, kTrainingTolerance}}};
}

}  // namespace

std::vector<VerifiedCase> verify_reference_model(const ReferenceModel& reference, DType dtype,
                                                 Device device) {
  std::vector<VerifiedCase> cases;
  run_ranks({}, kDeadline, [&](Communicator& world) {
    RankContext context(world, device);
    cases.push_back(verify_first_batch(reference, dtype, context));
    const auto losses = std::ranges::find(reference.expected, kLosses, &SafetensorsTensor::name);
    if (losses != reference.expected.end())
      cases.push_back(verify_training(reference, **losses, dtype, context));
  });
  return cases;
}

std::vector<VerifiedCase> verify_file(const std::filesystem::path& path, Device device) {
  require_usable(device);
  const SafetensorsFile file(path);
  if (!is_reference_model(file)) return verify_layer_file(path, device);
  try {
    return verify_reference_model(read_reference_model(file), DType::kF32, device);
  } catch (const InputError& error) {
    throw InputError(path.string() + ": " + error.what());
  }
}

}  // namespace flex
