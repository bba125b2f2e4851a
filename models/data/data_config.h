#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "models/data/augment.h"
#include "models/data/image_set.h"

namespace flex {

class JsonObject;

enum class DataKind : std::uint8_t { kFolder, kCifar10, kCifar100 };

/// Which images a model learns from, and how. A plain value; every rank describes it alike.
struct DataConfig {
  DataKind kind = DataKind::kFolder;
  std::filesystem::path training;    ///< folder of the training images; of CIFAR that of its files
  std::filesystem::path validation;  ///< the same for validation; empty: there are none
  AugmentConfig augment{};
  int num_workers = 2;        ///< threads of each rank
  std::int64_t prefetch = 2;  ///< batches made ahead
  double max_corrupt_fraction = 0.01;

  friend bool operator==(const DataConfig&, const DataConfig&) = default;
};

/// Reads `kind` (folder, cifar10, cifar100), `train` and `validation` (of CIFAR `path` for both), `augment`
/// (none, light, swin, or an object as read_augment_config() takes it; default none), `workers`, `prefetch`
/// and `max_corrupt_fraction`. Relative paths begin at `directory`, that of the file. Nothing is opened.
/// Calls finish(). @throws InputError.
[[nodiscard]] DataConfig read_data_config(JsonObject json, const std::filesystem::path& directory);

/// Opens the images. Those of validation have the classes of the training images, where these are there.
/// @throws InputError, FileError, as the sets; InputError for a folder in a build without image files, and if
///         there are no validation images.
[[nodiscard]] std::unique_ptr<const ImageSet> make_image_set(const DataConfig& config, DataSplit split);

}  // namespace flex
