#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "models/data/augment.h"
#include "models/evaluate_set.h"
#include "models/image_classifier.h"

namespace flex {

/// A class that an image may be of.
struct ScoredClass {
  std::int64_t label = 0;
  double probability = 0;  ///< softmax of the logits, computed in fp64
};

/// What a model takes an image for.
struct ClassifiedImage {
  std::filesystem::path path;
  std::string error;                   ///< why it could not be read; empty: it could
  std::vector<ScoredClass> classes{};  ///< the most probable first; of equal ones the lower class
};

/// The `most` most probable classes of logits (K) of any floating type, in host memory. A logit that is NaN
/// makes all probabilities NaN.
[[nodiscard]] std::vector<ScoredClass> most_probable(ConstTensorView logits, std::int64_t most);

/// Classifies files of images, as many at once as the model's batch has rows, with the crops and colours of
/// evaluation. A last batch is filled up with zeros. Collective: every rank names the same files, reads its
/// share of them, and knows all results. `progress`, which all ranks have or none, as in
/// infer_set_blocking(); ended early, the images that were done are returned.
[[nodiscard]] std::vector<ClassifiedImage> classify_files_blocking(
    ImageClassifier& classifier, std::span<const std::filesystem::path> files, const AugmentConfig& augment,
    std::int64_t most, RankContext& context, const EvaluationProgress& progress = {});

}  // namespace flex
