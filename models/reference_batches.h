#pragma once

#include "models/model_parameters.h"
#include "models/reference_model.h"
#include "models/trainer.h"

namespace flex {

/// A reference model's batches as one rank of several takes them.
class ReferenceBatches {
 public:
  /// @throws InputError unless the batch divides by `world`.
  ReferenceBatches(const ReferenceModel& reference, DType dtype, int world, int rank);
  /// Of step `step`; valid while this lives.
  [[nodiscard]] ImageBatch at(std::int64_t step) const&;
  [[nodiscard]] ImageBatch at(std::int64_t step) const&& = delete;

 private:
  std::vector<Tensor> images_, labels_;  // of each batch
};

/// Copies the reference's parameters in `dtype` into the model. @throws InputError for a tensor that is
/// missing, unknown or of another shape.
void load_reference_parameters(const ReferenceModel& reference, DType dtype, ModelParameters& parameters);

}  // namespace flex
