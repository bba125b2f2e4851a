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
/// Gets batches that are done, and all.
using EvaluationProgress = std::function<void(std::int64_t done, std::int64_t total)>;

/// Evaluates a model on every image of a set, each once; images that cannot be read are left out. `options`
/// of an evaluation, of this rank. Collective, with equal bits on every rank. `progress` is called on rank 0.
/// @throws InputError if too many images cannot be read; what `infer` throws.
[[nodiscard]] ClassifierEvaluation evaluate_set_blocking(const InferenceFunction& infer,
                                                         std::shared_ptr<const ImageSet> images,
                                                         const LoaderOptions& options, RankContext& context,
                                                         const EvaluationProgress& progress = {});

}  // namespace flex
