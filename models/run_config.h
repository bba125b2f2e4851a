#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>

namespace flex {

class JsonObject;

/// How often a training run does what is not training. Numbers of steps; 0: never. A plain value; every rank
/// describes it alike.
struct RunConfig {
  std::int64_t log_every = 10;           ///< lines of metrics, at least 1; the last step has one always
  std::int64_t evaluate_every = 0;       ///< on the validation images; a run ends with an evaluation always
  std::int64_t checkpoint_every = 500;   ///< a run ends with a checkpoint always
  std::int64_t keep_checkpoints = 3;     ///< the newest; 0: all
  std::int64_t drift_check_every = 500;  ///< whether all ranks hold the same parameters
  std::filesystem::path init{};          ///< file of parameters to begin with; empty: random ones

  friend bool operator==(const RunConfig&, const RunConfig&) = default;
};

/// Reads the keys named as the fields; a relative `init` begins at `directory`. Calls finish().
/// @throws InputError.
[[nodiscard]] RunConfig read_run_config(JsonObject json, const std::filesystem::path& directory);
/// All keys, which read_run_config() reads back to an equal value, with an absolute path.
[[nodiscard]] nlohmann::ordered_json to_json(const RunConfig& config);

}  // namespace flex
