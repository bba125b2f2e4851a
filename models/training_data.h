#pragma once

#include <memory>

#include "models/data/batch_filler.h"
#include "models/training_config.h"
#include "runtime/rank_context.h"

namespace flex {

/// The images of a model file, opened. Ranks of one process may share them.
struct TrainingData {
  std::shared_ptr<const ImageSet> training;
  std::shared_ptr<const ImageSet> validation;  ///< null: there are none
};

/// Opens them. @throws InputError if they are not of the model's number of classes; what make_image_set()
/// throws.
[[nodiscard]] TrainingData open_training_data(const ModelFile& file);

/// How this rank loads batches: all images of training, or each image of validation once.
[[nodiscard]] LoaderOptions loader_options(const ModelFile& file, LoadMode mode, RankContext& context);

/// @throws InputError unless `images` have as many classes as `model`.
void require_classes(const ModelConfig& model, const ImageSet& images);

}  // namespace flex
