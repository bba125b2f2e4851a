#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "models/trainer.h"

/// Checkpoints of a training run: a directory of safetensors files and a manifest. docs/checkpoints.md.
///
/// Everything here is collective, and fails on all ranks if it fails on one. Any number of ranks, on any
/// device, reads what any number has written.
namespace flex {

/// Writes `folder/step_00001200` after step 1200, and removes the oldest but the newest `keep` (0: none).
/// Returns its path. Rank 0 alone writes; it needs host memory for the largest parameter. Whatever happens
/// meanwhile, older checkpoints stay whole. @throws FileError (full disk, ...), InputError, CommError.
std::filesystem::path save_checkpoint(const std::filesystem::path& folder, Trainer& trainer,
                                      std::int64_t keep = 0);

/// What has been read.
struct LoadedCheckpoint {
  std::filesystem::path path;
  std::int64_t step = 0;
  /// Settings of the training that are not as they were, `learning_rate was 0.001, is 0.0005`: they hold from
  /// now on.
  std::vector<std::string> changed{};
  std::vector<std::string> damaged{};  ///< newer checkpoints that are not whole, and why
};

/// Puts `trainer`, whose step does not matter, where the one that wrote the checkpoint at `path` was. All
/// ranks must see the files. Nothing is changed unless all of it fits. On as many ranks of the CPU, and with
/// the same plans, training goes on with the same bits. Rank 0 compares checksums.
/// @throws InputError that names what is damaged, or what is another: file, key of the model, tensor;
/// FileError.
LoadedCheckpoint load_checkpoint(const std::filesystem::path& path, Trainer& trainer);

/// The newest whole checkpoint of a folder; nothing if there is none.
[[nodiscard]] std::optional<LoadedCheckpoint> resume_from(const std::filesystem::path& folder,
                                                          Trainer& trainer);

}  // namespace flex
