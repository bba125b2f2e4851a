#include "models/image_classifier.h"

#include "base/require.h"

namespace flex {

ImageClassifier::ImageClassifier(const ModelConfig& model, const TrainingConfig& training,
                                 const PlanSource& plans, RankContext& context)
    : stream_(context.device()),
      model_((validate(training, context.size()), model),
             {.dtype = training.dtype,
              .batch = training.batch_size / context.size(),
              .trains = false,
              .seed = training.seed,
              .plans = plans},
             context) {
  const std::int64_t batch = model_.options().batch;
  images_ =
      Tensor(gate_dtype(training.dtype),
             {batch, ModelConfig::kImageChannels, model.image_size, model.image_size}, context.device());
  host_logits_ = Tensor::staging(training.dtype, {batch, model.num_classes}, context.device());
}

ConstTensorView ImageClassifier::infer_blocking(ConstTensorView images) {
  const ConstTensorView logits = flex::infer_blocking(model_, images, images_, host_logits_, stream_);
  inferred_ = true;
  return logits;
}

ConstTensorView ImageClassifier::features_blocking() {
  require(inferred_, "ImageClassifier::features_blocking: nothing was inferred before");
  const ConstTensorView pooled = model_.pooled_features();
  if (!host_features_.view().present())
    host_features_ = Tensor::staging(pooled.dtype, pooled.shape, pooled.device);
  copy(host_features_, pooled, stream_);
  stream_.synchronize_blocking();
  return host_features_;
}

}  // namespace flex
