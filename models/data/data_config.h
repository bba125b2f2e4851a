#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "models/data/augment.h"
#include "models/data/image_set.h"

namespace flex {

class JsonObject;

enum class DataKind : std::uint8_t { kProcedural, kFolder, kCifar10, kCifar100 };
/// procedural, folder, cifar10, cifar100.
[[nodiscard]] std::string_view name(DataKind kind);

/// Which images a procedural set draws: see ProceduralSetOptions.
struct ProceduralData {
  std::int64_t num_images = 10'000;
  std::int64_t num_validation_images = 1'000;
  std::int64_t num_classes = 0;  ///< 0: as many as the model has
  std::int64_t image_size = 0;   ///< rows and columns; 0: as many as the model's images
  std::uint64_t seed = 0;
  double nuisance = 1;

  friend bool operator==(const ProceduralData&, const ProceduralData&) = default;
};

/// Which images a model learns from, and how. A plain value; every rank describes it alike.
struct DataConfig {
  DataKind kind = DataKind::kProcedural;
  ProceduralData procedural{};
  std::filesystem::path training;    ///< folder of the training images; of CIFAR that of its files
  std::filesystem::path validation;  ///< the same for validation; empty: there are none
  AugmentConfig augment{};
  int num_workers = 2;        ///< threads of each rank
  std::int64_t prefetch = 2;  ///< batches made ahead
  double max_corrupt_fraction = 0.01;

  friend bool operator==(const DataConfig&, const DataConfig&) = default;
};

/// Augmentation of procedural images unless told otherwise: nothing random, and the images as they are drawn.
[[nodiscard]] AugmentConfig procedural_augment();

/// Reads `kind` (procedural, folder, cifar10, cifar100; default procedural) and what it takes: `images`,
/// `validation_images`, `classes`, `size`, `seed`, `nuisance`; `train` and `validation`; or `path`. Then
/// `augment` (none, light, swin, or an object as read_augment_config() takes it; default none), `workers`,
/// `prefetch` and `max_corrupt_fraction`. Relative paths begin at `directory`, that of the file. Nothing is
/// opened: a path may come later. Calls finish(). @throws InputError.
[[nodiscard]] DataConfig read_data_config(JsonObject json, const std::filesystem::path& directory);
/// All keys, with absolute paths, which read_data_config() reads back to an equal value.
[[nodiscard]] nlohmann::ordered_json to_json(const DataConfig& config);

/// `config` with the images of `source` instead: `procedural`, or `cifar10:FOLDER`, `cifar100:FOLDER`,
/// `folder:ROOT`. The training images of ROOT are in ROOT/train, those of validation in ROOT/val or
/// ROOT/validation; a ROOT without `train` holds the classes of the training images itself.
/// @throws InputError for another kind, or a folder that is not there.
[[nodiscard]] DataConfig with_data_source(DataConfig config, std::string_view source);

/// Opens the images; the number and the size of procedural ones must be known. Those of validation have the
/// classes of the training images, where these are there.
/// @throws InputError, FileError, as the sets; InputError for a folder in a build without image files, and if
///         there are no such images.
[[nodiscard]] std::unique_ptr<const ImageSet> make_image_set(const DataConfig& config, DataSplit split);
/// Whether there are images of validation.
[[nodiscard]] bool has_validation(const DataConfig& config);

}  // namespace flex
