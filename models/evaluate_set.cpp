#include "models/evaluate_set.h"

#include <utility>

#include "models/data/batch_loader.h"

namespace flex {
namespace {

ConstTensorView row_of(ConstTensorView rows, std::int64_t row) {
  const auto* data =
      static_cast<const std::byte*>(rows.data) + row * rows.outer_stride * size_bytes(rows.dtype);
  const Shape shape = rows.shape.rank() == 1 ? Shape{1} : Shape{1, rows.shape[1]};
  return {data, rows.dtype, shape, rows.device};
}

// Row by row, since an image that could not be read may stand anywhere.
void add_batch(const ImageBatch& batch, ConstTensorView logits, ClassifierEvaluation& evaluation) {
  const auto* labels = batch.labels.as<std::int32_t>();
  for (std::int64_t row = 0; row < batch.labels.num_elements(); ++row) {
    if (labels[row] != kNoLabel) evaluation.add(row_of(logits, row), row_of(batch.labels, row), 1);
  }
}

}  // namespace

ClassifierEvaluation evaluate_set_blocking(const InferenceFunction& infer,
                                           std::shared_ptr<const ImageSet> images,
                                           const LoaderOptions& options, RankContext& context,
                                           const EvaluationProgress& progress) {
  ClassifierEvaluation evaluation(options.num_classes > 0
                                      ? options.num_classes
                                      : static_cast<std::int64_t>(images->class_names().size()));
  BatchLoader loader(std::move(images), options);
  for (std::int64_t done = 0; done < loader.num_batches(); ++done) {
    const ImageBatch batch = loader.next_blocking();
    add_batch(batch, infer(batch.images), evaluation);
    if (progress && context.rank() == 0) progress(done + 1, loader.num_batches());
  }
  evaluation.sum_over_ranks_blocking(context);
  return evaluation;
}

}  // namespace flex
