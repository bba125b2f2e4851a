#include "models/evaluate_set.h"

#include <algorithm>
#include <utility>

#include "models/data/batch_loader.h"
#include "runtime/max_over_ranks.h"

namespace flex {

ConstTensorView batch_row(ConstTensorView rows, std::int64_t row) {
  const auto* data =
      static_cast<const std::byte*>(rows.data) + row * rows.outer_stride * size_bytes(rows.dtype);
  const Shape shape = rows.shape.rank() == 1 ? Shape{1} : Shape{1, rows.shape[1]};
  return {data, rows.dtype, shape, rows.device};
}

bool infer_set_blocking(const InferenceFunction& infer, std::shared_ptr<const ImageSet> images,
                        const LoaderOptions& options, RankContext& context,
                        const std::function<void(const InferredImage&)>& visit,
                        const EvaluationProgress& progress) {
  const std::int64_t total = images->num_images();
  BatchLoader loader(std::move(images), options);
  for (std::int64_t step = 0; step < loader.num_batches(); ++step) {
    const ImageBatch batch = loader.next_blocking();
    const ConstTensorView logits = infer(batch.images);
    const auto* labels = batch.labels.as<std::int32_t>();
    const std::int64_t first = (step * options.world + options.rank) * options.local_batch;
    // Row by row, since an image that could not be read may stand anywhere.
    for (std::int64_t row = 0; row < loader.num_valid(); ++row) {
      if (labels[row] != kNoLabel)
        visit({first + row, row, batch_row(logits, row), batch_row(batch.labels, row)});
    }
    if (!progress) continue;
    const std::int64_t done = std::min(total, (step + 1) * options.world * options.local_batch);
    if (any_rank_blocking(!progress(done, total), context.control())) return false;
  }
  return true;
}

ClassifierEvaluation evaluate_set_blocking(const InferenceFunction& infer,
                                           std::shared_ptr<const ImageSet> images,
                                           const LoaderOptions& options, RankContext& context,
                                           const EvaluationProgress& progress) {
  ClassifierEvaluation evaluation(options.num_classes > 0
                                      ? options.num_classes
                                      : static_cast<std::int64_t>(images->class_names().size()));
  infer_set_blocking(
      infer, std::move(images), options, context,
      [&](const InferredImage& image) { evaluation.add(image.logits, image.label, 1); }, progress);
  evaluation.sum_over_ranks_blocking(context);
  return evaluation;
}

}  // namespace flex
