#include "models/image_classifier.h"

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
  return flex::infer_blocking(model_, images, images_, host_logits_, stream_);
}

}  // namespace flex
