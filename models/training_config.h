#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/dtype.h"
#include "models/model_config.h"

namespace flex {

/// How a model is trained. A plain value; every rank describes it alike.
struct TrainingConfig {
  DType dtype = DType::kF32;    ///< of activations, weights as layers read them, and gradients
  std::int64_t batch_size = 8;  ///< images of a step, over all ranks
  std::int64_t steps = 100;
  double learning_rate = 1e-3;     ///< at the end of the warm-up
  double min_learning_rate = 0.0;  ///< at the last step
  std::int64_t warmup_steps = 0;   ///< the rate rises linearly over these
  bool cosine_schedule = true;     ///< or else the rate stays
  double weight_decay = 0.05;
  /// Names that hold one of these do not decay; nor do tensors of one axis.
  std::vector<std::string> no_decay = {"cpb_mlp", "cosine_projector", "sim_matrix", "temperature"};
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double clip_grad_norm = 0.0;  ///< 0: no clipping
  double label_smoothing = 0.0;
  double average_decay = 0.0;       ///< of the moving average of the parameters; 0: none is kept
  double loss_scale = 1.0;          ///< at the first step
  bool dynamic_loss_scale = false;  ///< halved when gradients overflow, doubled after kScaleSteps good steps
  std::uint64_t seed = 0;           ///< of initial parameters, drop path, noise and procedural images

  friend bool operator==(const TrainingConfig&, const TrainingConfig&) = default;
};

/// Rate of step `step`, counted from 0: linear over the warm-up, then half a cosine down to
/// min_learning_rate, which the last step has. @source Loshchilov, Hutter, "SGDR"
[[nodiscard]] double learning_rate_at(const TrainingConfig& config, std::int64_t step);

/// @throws InputError that names the key of the first setting that cannot be, on `world` ranks.
void validate(const TrainingConfig& config, int world);

/// Reads the keys named as the fields; fp16 has a dynamic loss scale of 65536 unless told otherwise. Calls
/// finish(). @throws InputError.
[[nodiscard]] TrainingConfig read_training_config(JsonObject json);

/// A file: the model's keys, and `training` as an object. @throws InputError, FileError.
struct ModelFile {
  ModelConfig model;
  TrainingConfig training;
};
[[nodiscard]] ModelFile read_model_file(const std::filesystem::path& path);
/// The same of its text; `where` begins every message.
[[nodiscard]] ModelFile parse_model_file(std::string_view text, const std::string& where);

}  // namespace flex
