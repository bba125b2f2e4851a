#include "models/data/data_config.h"

#include <nlohmann/json.hpp>
#include <string>

#include "base/json_object.h"
#include "base/require.h"
#include "models/data/cifar_set.h"
#ifdef FLEX_HAS_IMAGES
#include "models/data/folder_set.h"
#endif

namespace flex {
namespace {

constexpr int kMostWorkers = 1024;

template <class T>
void read_into(T& field, JsonObject& json, std::string_view key, const JsonRange& range = {}) {
  if (auto value = json.optional<T>(key, range)) field = std::move(*value);
}

DataKind read_kind(JsonObject& json) {
  const std::string kind = json.one_of("kind", {"folder", "cifar10", "cifar100"});
  if (kind == "cifar10") return DataKind::kCifar10;
  return kind == "cifar100" ? DataKind::kCifar100 : DataKind::kFolder;
}

AugmentConfig read_augment(JsonObject& json) {
  if (!json.contains("augment")) return {};
  if (!json.raw("augment").is_string()) return read_augment_config(json.required<JsonObject>("augment"));
  return augment_preset(json.one_of("augment", {"none", "light", "swin"}));
}

#ifdef FLEX_HAS_IMAGES
std::unique_ptr<const ImageSet> make_folder_set(const DataConfig& config, DataSplit split) {
  if (split == DataSplit::kTraining) return std::make_unique<ImageFolder>(config.training);
  // A machine that only evaluates need not have the training images.
  if (!std::filesystem::exists(config.training)) return std::make_unique<ImageFolder>(config.validation);
  return std::make_unique<ImageFolder>(config.validation, class_folders(config.training));
}
#else
std::unique_ptr<const ImageSet> make_folder_set(const DataConfig& config, DataSplit /*split*/) {
  fail("{}: this build reads no image files; configure it with -DFLEX_IMAGES=ON", config.training.string());
}
#endif

}  // namespace

DataConfig read_data_config(JsonObject json, const std::filesystem::path& directory) {
  DataConfig config;
  config.kind = read_kind(json);
  if (config.kind == DataKind::kFolder) {
    config.training = directory / json.required_text("train");
    if (const auto path = json.optional<std::string>("validation")) config.validation = directory / *path;
  } else {
    config.training = directory / json.required_text("path");
    config.validation = config.training;
  }
  config.augment = read_augment(json);
  read_into(config.num_workers, json, "workers", JsonRange::between(1, kMostWorkers));
  read_into(config.prefetch, json, "prefetch", JsonRange::at_least(1));
  read_into(config.max_corrupt_fraction, json, "max_corrupt_fraction", JsonRange::between(0, 1));
  json.finish();
  return config;
}

std::unique_ptr<const ImageSet> make_image_set(const DataConfig& config, DataSplit split) {
  require(split == DataSplit::kTraining || !config.validation.empty(),
          "data.validation: is missing; it names the folder of the validation images");
  switch (config.kind) {
    case DataKind::kFolder:
      return make_folder_set(config, split);
    case DataKind::kCifar10:
      return std::make_unique<CifarSet>(CifarKind::kCifar10, config.training, split);
    case DataKind::kCifar100:
      return std::make_unique<CifarSet>(CifarKind::kCifar100, config.training, split);
  }
  fail("there is no such kind of data");
}

}  // namespace flex
