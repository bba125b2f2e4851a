#pragma once

#include <cstdint>
#include <vector>

#include "base/safetensors.h"
#include "models/model_config.h"
#include "models/training_config.h"

/// Files of reference results of a whole model. The metadata's `config` is a JSON object with a key `model`;
/// tensors are `init.*` (parameters under the checkpoint's names), `images` (batches, batch, 3, size, size)
/// and `labels` (batches, batch); and what to compare: `logits`, `stage0` to `stage3`, `aux`, `loss` and
/// `grad.*` of the first batch, and `train_losses`, the total loss before each step of AdamW, step i on
/// batch i modulo the number of batches.
namespace flex {

struct ReferenceModel {
  ModelConfig model;
  TrainingConfig training;       ///< steps: at least 1, also where the file trains none
  bool aux_is_weighted = false;  ///< `aux` already holds the weight of the auxiliary loss
  std::int64_t num_batches = 0;
  std::vector<float> images;
  std::vector<std::int32_t> labels;
  std::vector<const SafetensorsTensor*> parameters;  ///< `init.*`
  std::vector<const SafetensorsTensor*> expected;    ///< all that is neither parameter nor input
};

[[nodiscard]] bool is_reference_model(const SafetensorsFile& file);
/// Tensors stay in the file, which must outlive the result. @throws InputError that names key or tensor.
[[nodiscard]] ReferenceModel read_reference_model(const SafetensorsFile& file);
ReferenceModel read_reference_model(SafetensorsFile&& file) = delete;

}  // namespace flex
