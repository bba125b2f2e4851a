#include "models/training_data.h"

#include "base/require.h"

namespace flex {

void require_classes(const ModelConfig& model, const ImageSet& images) {
  const auto num_classes = static_cast<std::int64_t>(images.class_names().size());
  require(num_classes == model.num_classes,
          "the images are of {} classes, and num_classes of the model is {}; set it to {}", num_classes,
          model.num_classes, num_classes);
}

TrainingData open_training_data(const ModelFile& file) {
  TrainingData data{.training = make_image_set(file.data, DataSplit::kTraining)};
  require_classes(file.model, *data.training);
  if (has_validation(file.data)) {
    data.validation = make_image_set(file.data, DataSplit::kValidation);
    require_classes(file.model, *data.validation);
  }
  return data;
}

LoaderOptions loader_options(const ModelFile& file, LoadMode mode, RankContext& context) {
  return {.mode = mode,
          .local_batch = file.training.batch_size / context.size(),
          .rank = context.rank(),
          .world = context.size(),
          .image_size = file.model.image_size,
          .num_classes = file.model.num_classes,
          .dtype = gate_dtype(file.training.dtype),
          .device = context.device(),
          .num_workers = file.data.num_workers,
          .prefetch = file.data.prefetch,
          .seed = file.training.seed,
          .augment = file.data.augment,
          .max_corrupt_fraction = file.data.max_corrupt_fraction};
}

}  // namespace flex
