#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "models/data/image_set.h"
#include "models/image_classifier.h"
#include "models/training_config.h"

namespace flex {

/// A model as somebody has kept it, found but not loaded.
struct SavedModel {
  std::filesystem::path parameters;  ///< what load_parameters() takes: a checkpoint, or a file
  ModelFile file;                    ///< its configuration; as the parameters need it, they may be loaded
  bool has_data = false;             ///< `file.data` was told by a configuration
  std::vector<std::string> class_names{};  ///< by label; empty: unknown
  std::optional<std::int64_t> step{};      ///< of a checkpoint
  std::vector<std::string> damaged{};      ///< newer checkpoints that are not whole, and why
};

/// Finds the model that `path` names:
///  - the folder of a run, or of checkpoints: the newest whole checkpoint;
///  - a checkpoint, which has its configuration in its manifest;
///  - a file of parameters, as ParameterFiles reads it, whose configuration is `config`, or its own if it is
///    one of Flex's.
/// Data and names of classes are those of the run that a checkpoint lies in. `config`, a model file, may be
/// empty; else it takes the place of every other configuration.
/// @throws InputError that says what is missing; FileError.
[[nodiscard]] SavedModel open_saved_model(const std::filesystem::path& path,
                                          const std::filesystem::path& config = {});

/// Fills `classifier`, which was made of the model's configuration, with its parameters, or with their moving
/// averages. Collective. @throws InputError if ranks found different checkpoints, as while a run goes on; as
/// load_parameters() and load_averages().
void load_saved_model(const SavedModel& saved, bool average, ImageClassifier& classifier,
                      RankContext& context);

/// The model for images of another size. Windows stay as large as they fit, and the position bias sees the
/// coordinates that it was trained with. @throws InputError for a size that cannot be.
[[nodiscard]] ModelConfig with_image_size(ModelConfig model, std::int64_t image_size);

/// @throws InputError unless the images have the classes of the model: as many, and with the same names where
/// both have names that are not mere numbers.
void require_same_classes(const SavedModel& saved, const ImageSet& images);

}  // namespace flex
