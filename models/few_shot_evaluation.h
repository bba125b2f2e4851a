#pragma once

#include <memory>
#include <optional>

#include "models/evaluate_set.h"
#include "models/image_classifier.h"
#include "models/linear_probe.h"

namespace flex {

/// A linear probe on the classifier's pooled features of `shots.shots` images of each class of `images`; only
/// these are read. Every rank has the same. Collective; `options` and `progress` as infer_set_blocking() has
/// them. Nothing if `progress` ended it early.
/// @throws InputError that names a class with too few images; as infer_set_blocking().
[[nodiscard]] std::optional<LinearProbe> fit_few_shot_probe_blocking(
    ImageClassifier& classifier, const std::shared_ptr<const ImageSet>& images, const FewShotOptions& shots,
    const LoaderOptions& options, RankContext& context, const EvaluationProgress& progress = {});

/// Infers by the probe instead of the linear head: scores (B, classes), which are no logits, so that an
/// evaluation's top-1 and top-5 mean something and its cross entropy does not. Both must outlive it.
[[nodiscard]] InferenceFunction probing(ImageClassifier& classifier, const LinearProbe& probe);

}  // namespace flex
