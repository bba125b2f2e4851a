#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "models/checkpoint/checkpoint_manifest.h"
#include "models/checkpoint/parameter_files.h"

namespace flex::cli {

/// What `flexmoe checkpoint inspect` found.
struct InspectedCheckpoint {
  ParameterFiles files;
  std::optional<CheckpointManifest> manifest;  ///< nothing for a file that is no checkpoint
  std::optional<std::string> damage;           ///< why it is not whole
};

[[nodiscard]] std::string checkpoint_text(const InspectedCheckpoint& inspected);
[[nodiscard]] nlohmann::ordered_json checkpoint_json(const InspectedCheckpoint& inspected);

}  // namespace flex::cli
