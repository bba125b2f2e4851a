#include "models/data/data_config.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/json_object.h"
#include "base/nearest_name.h"
#include "base/require.h"
#include "models/data/cifar_set.h"
#include "models/data/procedural_set.h"
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

constexpr std::array<std::pair<std::string_view, DataKind>, 4> kKinds = {
    {{"procedural", DataKind::kProcedural},
     {"folder", DataKind::kFolder},
     {"cifar10", DataKind::kCifar10},
     {"cifar100", DataKind::kCifar100}}};

DataKind kind_of(std::string_view text) {
  return std::ranges::find(kKinds, text, &decltype(kKinds)::value_type::first)->second;
}

DataKind read_kind(JsonObject& json) {
  return kind_of(
      json.optional_one_of("kind", {"procedural", "folder", "cifar10", "cifar100"}).value_or("procedural"));
}

void read_procedural(ProceduralData& data, JsonObject& json) {
  read_into(data.num_images, json, "images", JsonRange::at_least(1));
  read_into(data.num_validation_images, json, "validation_images", JsonRange::at_least(0));
  read_into(data.num_classes, json, "classes", JsonRange::between(1, ProceduralSet::kMostClasses));
  read_into(data.image_size, json, "size", JsonRange::at_least(ProceduralSet::kLeastSize));
  read_into(data.seed, json, "seed");
  read_into(data.nuisance, json, "nuisance", JsonRange::between(0, 1));
}

void read_paths(DataConfig& config, JsonObject& json, const std::filesystem::path& directory) {
  const bool is_folder = config.kind == DataKind::kFolder;
  if (const auto path = json.optional<std::string>(is_folder ? "train" : "path"))
    config.training = directory / *path;
  if (!is_folder) config.validation = config.training;
  if (!is_folder) return;
  if (const auto path = json.optional<std::string>("validation")) config.validation = directory / *path;
}

AugmentConfig read_augment(JsonObject& json, DataKind kind) {
  if (!json.contains("augment"))
    return kind == DataKind::kProcedural ? procedural_augment() : AugmentConfig::none();
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

std::unique_ptr<const ImageSet> make_procedural_set(const ProceduralData& data, DataSplit split) {
  const bool trains = split == DataSplit::kTraining;
  return std::make_unique<ProceduralSet>(
      ProceduralSetOptions{.num_images = trains ? data.num_images : data.num_validation_images,
                           .num_classes = data.num_classes,
                           .image_size = data.image_size,
                           .seed = data.seed,
                           .split = trains ? 0U : 1U,
                           .nuisance = data.nuisance});
}

std::filesystem::path existing_folder(const std::filesystem::path& path, std::string_view source) {
  require(std::filesystem::is_directory(path), "--data {}: {} is no folder", source, path.string());
  return path;
}

void set_folder(DataConfig& config, const std::filesystem::path& root) {
  const bool has_parts = std::filesystem::is_directory(root / "train");
  config.training = has_parts ? root / "train" : root;
  config.validation.clear();
  if (!has_parts) return;
  for (const std::string_view part : {"val", "validation"}) {
    if (std::filesystem::is_directory(root / part)) config.validation = root / part;
  }
}

}  // namespace

std::string_view name(DataKind kind) {
  return std::ranges::find(kKinds, kind, &decltype(kKinds)::value_type::second)->first;
}

AugmentConfig procedural_augment() {
  AugmentConfig augment = AugmentConfig::none();
  augment.central_share = 1;
  return augment;
}

DataConfig read_data_config(JsonObject json, const std::filesystem::path& directory) {
  DataConfig config;
  config.kind = read_kind(json);
  if (config.kind == DataKind::kProcedural) {
    read_procedural(config.procedural, json);
  } else {
    read_paths(config, json, directory);
  }
  config.augment = read_augment(json, config.kind);
  read_into(config.num_workers, json, "workers", JsonRange::between(1, kMostWorkers));
  read_into(config.prefetch, json, "prefetch", JsonRange::at_least(1));
  read_into(config.max_corrupt_fraction, json, "max_corrupt_fraction", JsonRange::between(0, 1));
  json.finish();
  return config;
}

nlohmann::ordered_json to_json(const DataConfig& config) {
  nlohmann::ordered_json json = {{"kind", name(config.kind)}};
  const auto add_path = [&](std::string_view key, const std::filesystem::path& path) {
    if (!path.empty()) json[key] = std::filesystem::absolute(path).lexically_normal().string();
  };
  if (config.kind == DataKind::kProcedural) {
    const ProceduralData& data = config.procedural;
    json["images"] = data.num_images;
    json["validation_images"] = data.num_validation_images;
    if (data.num_classes > 0) json["classes"] = data.num_classes;
    if (data.image_size > 0) json["size"] = data.image_size;
    json["seed"] = data.seed;
    json["nuisance"] = data.nuisance;
  } else if (config.kind == DataKind::kFolder) {
    add_path("train", config.training);
    add_path("validation", config.validation);
  } else {
    add_path("path", config.training);
  }
  json["augment"] = to_json(config.augment);
  json["workers"] = config.num_workers;
  json["prefetch"] = config.prefetch;
  json["max_corrupt_fraction"] = config.max_corrupt_fraction;
  return json;
}

DataConfig with_data_source(DataConfig config, std::string_view source) {
  const std::size_t colon = source.find(':');
  const std::string_view kind = source.substr(0, colon);
  std::vector<std::string> kinds;
  for (const auto& entry : kKinds) kinds.emplace_back(entry.first);
  if (std::ranges::find(kinds, kind) == kinds.end()) {
    const auto nearest = nearest_name(kind, kinds);
    fail("--data {}: there is no kind '{}' of data{}; there are {}", source, kind,
         nearest ? fmt::format(" (did you mean {}?)", *nearest) : "", fmt::join(kinds, ", "));
  }
  config.kind = kind_of(kind);
  const bool has_path = colon != std::string_view::npos && colon + 1 < source.size();
  const bool is_procedural = config.kind == DataKind::kProcedural;
  require(has_path != is_procedural, "--data {}: {}", source,
          is_procedural ? "procedural images have no folder" : "the folder is missing; write KIND:FOLDER");
  if (is_procedural) return config;
  const std::filesystem::path root = existing_folder(source.substr(colon + 1), source);
  if (config.kind == DataKind::kFolder) {
    set_folder(config, root);
  } else {
    config.training = root;
    config.validation = root;
  }
  return config;
}

bool has_validation(const DataConfig& config) {
  return config.kind == DataKind::kProcedural ? config.procedural.num_validation_images > 0
                                              : !config.validation.empty();
}

std::unique_ptr<const ImageSet> make_image_set(const DataConfig& config, DataSplit split) {
  if (config.kind == DataKind::kProcedural) {
    require(split == DataSplit::kTraining || has_validation(config),
            "data.validation_images: is 0; there is nothing to evaluate on");
    return make_procedural_set(config.procedural, split);
  }
  require(split == DataSplit::kValidation || !config.training.empty(),
          "data.{}: is missing; it names the folder of the images, as --data {}:FOLDER does",
          config.kind == DataKind::kFolder ? "train" : "path", name(config.kind));
  require(split == DataSplit::kTraining || !config.validation.empty(),
          "data.validation: is missing; it names the folder of the validation images");
  if (config.kind == DataKind::kFolder) return make_folder_set(config, split);
  return std::make_unique<CifarSet>(
      config.kind == DataKind::kCifar10 ? CifarKind::kCifar10 : CifarKind::kCifar100, config.training, split);
}

}  // namespace flex
