#pragma once

#include <nlohmann/json_fwd.hpp>

#include "models/model_config.h"
#include "models/training_config.h"

namespace flex {

/// All keys of a model, which read_model_config() reads back to an equal value; `moe` is left out of a dense
/// model.
[[nodiscard]] nlohmann::ordered_json to_json(const ModelConfig& config);
/// All keys of a training configuration, which read_training_config() reads back to an equal value.
[[nodiscard]] nlohmann::ordered_json to_json(const TrainingConfig& config);
/// All of a file, which read_model_file() reads back to an equal value, with absolute paths.
[[nodiscard]] nlohmann::ordered_json to_json(const ModelFile& file);

}  // namespace flex
