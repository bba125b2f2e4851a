#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/dtype.h"
#include "models/data/data_config.h"
#include "models/model_config.h"
#include "models/run_config.h"

namespace flex {

/// How a model is trained. A plain value; every rank describes it alike.
struct TrainingConfig {
  DType dtype = DType::kF32;    ///< of activations, weights as layers read them, and gradients
  std::int64_t batch_size = 8;  ///< images of a step, over all ranks
  std::int64_t steps = 100;
  double epochs = 0;               ///< instead of `steps`, which then follow from the data; 0: `steps` holds
  double warmup_epochs = 0;        ///< the same for `warmup_steps`
  double learning_rate = 1e-3;     ///< at the end of the warm-up
  double min_learning_rate = 0.0;  ///< at the last step
  std::int64_t warmup_steps = 0;   ///< the rate rises linearly over these
  bool cosine_schedule = true;     ///< or else the rate stays
  double weight_decay = 0.05;
  /// Names that hold one of these do not decay; nor do tensors of one axis.
  std::vector<std::string> no_decay = {"cpb_mlp", "cosine_projector", "sim_matrix", "temperature"};
  /// Parameters whose names hold one of these stay as they are: no update, no moments, no part in the
  /// gradient norm.
  std::vector<std::string> frozen{};
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double clip_grad_norm = 0.0;  ///< 0: no clipping
  double label_smoothing = 0.0;
  double average_decay = 0.0;       ///< of the moving average of the parameters; 0: none is kept
  double loss_scale = 1.0;          ///< at the first step
  bool dynamic_loss_scale = false;  ///< halved when gradients overflow, doubled after kScaleSteps good steps
  std::uint64_t seed = 0;  ///< of initial parameters, drop path, noise, order of images and augmentation

  friend bool operator==(const TrainingConfig&, const TrainingConfig&) = default;
};

/// `config` with the steps that its epochs are, of `num_images` images each, and with no epochs.
/// @throws InputError for a warm-up that is longer than the training.
[[nodiscard]] TrainingConfig with_steps(TrainingConfig config, std::int64_t num_images);

/// Rate of step `step`, counted from 0: linear over the warm-up, then half a cosine down to
/// min_learning_rate, which the last step has. @source Loshchilov, Hutter, "SGDR"
[[nodiscard]] double learning_rate_at(const TrainingConfig& config, std::int64_t step);

/// @throws InputError that names the key of the first setting that cannot be, on `world` ranks.
void validate(const TrainingConfig& config, int world);

/// Reads the keys named as the fields; fp16 has a dynamic loss scale of 65536 unless told otherwise. Calls
/// finish(). @throws InputError.
[[nodiscard]] TrainingConfig read_training_config(JsonObject json);

/// A file: the model's keys, and the objects `training`, `data` and `run`, whose relative paths begin at the
/// file's folder.
struct ModelFile {
  ModelConfig model;
  TrainingConfig training;
  DataConfig data{};  ///< of procedural images the number of classes and the size are known
  RunConfig run{};

  friend bool operator==(const ModelFile&, const ModelFile&) = default;
};
/// @throws InputError, FileError.
[[nodiscard]] ModelFile read_model_file(const std::filesystem::path& path);
/// Makes procedural images fit the model where the configuration leaves that open.
/// @throws InputError for procedural images of another number of classes than the model's.
void fit_procedural_data(ModelFile& file);
/// The same of its text; `where` begins every message.
[[nodiscard]] ModelFile parse_model_file(std::string_view text, const std::string& where);

}  // namespace flex
