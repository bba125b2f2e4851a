#include "models/training_config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "base/json.h"
#include "base/json_object.h"
#include "base/require.h"

namespace flex {
namespace {

constexpr double kFirstLossScale = 65536;  // of fp16

template <class T>
void read_into(T& field, JsonObject& json, std::string_view key, const JsonRange& range = {}) {
  if (auto value = json.optional<T>(key, range)) field = std::move(*value);
}

// A length as a number of steps or of epochs, `steps` or `epochs` behind `prefix`.
void read_length(std::int64_t& steps, double& epochs, JsonObject& json, const std::string& prefix,
                 const JsonRange& range) {
  const std::string epochs_key = prefix + "epochs";
  if (json.contains(prefix + "steps") && json.contains(epochs_key))
    json.reject(epochs_key, "is given beside {}steps; one of them decides", prefix);
  read_into(steps, json, prefix + "steps", range);
  read_into(epochs, json, epochs_key, JsonRange::above(0));
}

// A list of name parts, or one alone.
void read_frozen(std::vector<std::string>& frozen, JsonObject& json) {
  constexpr std::string_view kKey = "frozen";
  if (!json.contains(kKey)) return;
  const nlohmann::json& value = json.raw(kKey);
  if (value.is_string()) {
    frozen = {json.required_text(kKey)};
  } else {
    if (!value.is_array())
      json.reject(kKey, "is {}; it must be a part of a name, or a list of them", value.dump());
    frozen = json.required<std::vector<std::string>>(kKey);
  }
  for (const std::string& part : frozen) {
    if (part.empty()) json.reject(kKey, "holds an empty part, which every name has; leave it out");
  }
}

}  // namespace

double learning_rate_at(const TrainingConfig& config, std::int64_t step) {
  if (step < config.warmup_steps) {
    return config.learning_rate * static_cast<double>(step + 1) / static_cast<double>(config.warmup_steps);
  }
  const std::int64_t rest = config.steps - config.warmup_steps;
  if (!config.cosine_schedule || rest < 2) return config.learning_rate;
  const double phase =
      std::min(1.0, static_cast<double>(step - config.warmup_steps) / static_cast<double>(rest - 1));
  return config.min_learning_rate +
         (config.learning_rate - config.min_learning_rate) * (1 + std::cos(std::numbers::pi * phase)) / 2;
}

void validate(const TrainingConfig& config, int world) {
  require(config.dtype != DType::kI32 && config.dtype != DType::kI64 && config.dtype != DType::kU8,
          "training.dtype: is {}; it must be fp64, fp32, fp16 or bf16", name(config.dtype));
  require(config.batch_size >= 1 && config.batch_size % world == 0,
          "training.batch_size: is {}; it must be a multiple of the {} ranks", config.batch_size, world);
  require(config.epochs == 0 || config.warmup_epochs <= config.epochs,
          "training.warmup_epochs: is {}; it must be from 0 to the {} epochs", config.warmup_epochs,
          config.epochs);
  require(config.steps >= 1, "training.steps: is {}; it must be at least 1", config.steps);
  const bool steps_are_known = config.epochs == 0;
  require(config.warmup_steps >= 0 && (!steps_are_known || config.warmup_steps <= config.steps),
          "training.warmup_steps: is {}; it must be from 0 to the {} steps", config.warmup_steps,
          config.steps);
  require(config.min_learning_rate <= config.learning_rate,
          "training.min_learning_rate: is {}; it must be at most learning_rate, {}", config.min_learning_rate,
          config.learning_rate);
  require(config.average_decay >= 0 && config.average_decay < 1,
          "training.average_decay: is {}; it must be at least 0 and below 1", config.average_decay);
  require(config.loss_scale > 0, "training.loss_scale: is {}; it must be above 0", config.loss_scale);
}

TrainingConfig with_steps(TrainingConfig config, std::int64_t num_images) {
  const auto steps_of = [&](double epochs) -> std::int64_t {
    const double images = epochs * static_cast<double>(num_images);
    return std::llround(images / static_cast<double>(config.batch_size));
  };
  if (config.epochs > 0) config.steps = std::max<std::int64_t>(1, steps_of(config.epochs));
  if (config.warmup_epochs > 0) config.warmup_steps = std::min(config.steps, steps_of(config.warmup_epochs));
  config.epochs = 0;
  config.warmup_epochs = 0;
  validate(config, 1);
  return config;
}

TrainingConfig read_training_config(JsonObject json) {
  TrainingConfig config;
  const JsonRange not_negative = JsonRange::at_least(0);
  const JsonRange share = JsonRange::between(0, 1);
  if (const auto dtype = json.optional_one_of("dtype", {"fp64", "fp32", "fp16", "bf16"}))
    config.dtype = *parse_dtype(*dtype);
  config.dynamic_loss_scale = config.dtype == DType::kF16;
  if (config.dynamic_loss_scale) config.loss_scale = kFirstLossScale;
  read_into(config.batch_size, json, "batch_size", JsonRange::at_least(1));
  read_length(config.steps, config.epochs, json, "", JsonRange::at_least(1));
  read_into(config.learning_rate, json, "learning_rate", not_negative);
  read_into(config.min_learning_rate, json, "min_learning_rate", not_negative);
  read_length(config.warmup_steps, config.warmup_epochs, json, "warmup_", not_negative);
  config.cosine_schedule =
      json.optional_one_of("schedule", {"cosine", "constant"}).value_or("cosine") == "cosine";
  read_into(config.weight_decay, json, "weight_decay", not_negative);
  read_into(config.no_decay, json, "no_decay");
  read_frozen(config.frozen, json);
  read_into(config.beta1, json, "beta1", share);
  read_into(config.beta2, json, "beta2", share);
  read_into(config.epsilon, json, "epsilon", JsonRange::above(0));
  read_into(config.clip_grad_norm, json, "clip_grad_norm", not_negative);
  read_into(config.label_smoothing, json, "label_smoothing", share);
  read_into(config.average_decay, json, "average_decay", share);
  read_into(config.loss_scale, json, "loss_scale", JsonRange::above(0));
  read_into(config.dynamic_loss_scale, json, "dynamic_loss_scale");
  read_into(config.seed, json, "seed");
  json.finish();
  try {
    validate(config, 1);
  } catch (const InputError& error) {
    fail("{}: {}", json.place(), error.what());
  }
  return config;
}

namespace {

ModelFile model_file_of(JsonObject json, const std::filesystem::path& directory) {
  ModelFile file;
  file.model = read_model_config(json);
  if (auto training = json.optional<JsonObject>("training"))
    file.training = read_training_config(std::move(*training));
  file.data.augment = procedural_augment();
  if (auto data = json.optional<JsonObject>("data"))
    file.data = read_data_config(std::move(*data), directory);
  if (auto run = json.optional<JsonObject>("run")) file.run = read_run_config(std::move(*run), directory);
  json.finish();
  try {
    fit_procedural_data(file);
  } catch (const InputError& error) {
    fail("{}: {}", json.place(), error.what());
  }
  return file;
}

}  // namespace

ModelFile read_model_file(const std::filesystem::path& path) {
  return model_file_of(JsonObject::from_file(path), path.parent_path());
}

ModelFile parse_model_file(std::string_view text, const std::string& where) {
  return model_file_of(JsonObject(parse_json(text, where), where), {});
}

void fit_procedural_data(ModelFile& file) {
  if (file.data.kind != DataKind::kProcedural) return;
  ProceduralData& images = file.data.procedural;
  if (images.num_classes == 0) images.num_classes = file.model.num_classes;
  if (images.image_size == 0) images.image_size = file.model.image_size;
  require(images.num_classes == file.model.num_classes, "data.classes: is {}; the model's num_classes is {}",
          images.num_classes, file.model.num_classes);
}

}  // namespace flex
