#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "kernels/tensor.h"
#include "models/data/batch_filler.h"
#include "models/evaluation.h"
#include "runtime/rank_context.h"

namespace flex {

/// Logits (B, classes) in host memory for images (B, 3, S, S) in host memory; collective if the model is.
/// What it returns is valid until the next call.
using InferenceFunction = std::function<ConstTensorView(ConstTensorView images)>;
/// Called on every rank after each batch with the images of all ranks that are done, and all of the set.
/// Where one rank's returns false, which may be anywhere, the work ends here on all ranks.
using EvaluationProgress = std::function<bool(std::int64_t done, std::int64_t total)>;

/// An image of the set that could be read.
struct InferredImage {
  std::int64_t image = 0;  ///< its number in the set
  std::int64_t row = 0;    ///< in the batch that was inferred
  ConstTensorView logits;  ///< (1, classes)
  ConstTensorView label;   ///< (1) i32
};

/// Row `row` of (B) or (B, C) as (1) or (1, C).
[[nodiscard]] ConstTensorView batch_row(ConstTensorView rows, std::int64_t row);

/// Infers every image of a set once, and shows `visit` those of this rank that could be read. `options` of an
/// evaluation, of this rank. A last batch is filled up with zeros, whose tokens take part in the routing.
/// False if `progress`, which either all ranks have or none, ended it early. Collective.
/// @throws InputError if too many images cannot be read; what `infer` and `visit` throw.
bool infer_set_blocking(const InferenceFunction& infer, std::shared_ptr<const ImageSet> images,
                        const LoaderOptions& options, RankContext& context,
                        const std::function<void(const InferredImage&)>& visit,
                        const EvaluationProgress& progress = {});

/// Evaluates a model on every image of a set, each once, as infer_set_blocking(); images that cannot be read
/// are left out. Ended early it counts what was done. Collective, with equal bits on every rank.
[[nodiscard]] ClassifierEvaluation evaluate_set_blocking(const InferenceFunction& infer,
                                                         std::shared_ptr<const ImageSet> images,
                                                         const LoaderOptions& options, RankContext& context,
                                                         const EvaluationProgress& progress = {});

}  // namespace flex
