#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "models/trainer.h"

namespace flex {

/// The files of a checkpoint's directory.
inline constexpr std::string_view kManifestFile = "manifest.json";
inline constexpr std::string_view kModelFile = "model.safetensors";
inline constexpr std::string_view kOptimizerFile = "optimizer.safetensors";

/// One of a checkpoint's files as it was written.
struct StoredFile {
  std::int64_t bytes = 0;
  std::uint64_t checksum = 0;  ///< file_checksum()
  friend bool operator==(const StoredFile&, const StoredFile&) = default;
};

/// What a checkpoint says of itself: `manifest.json`, written last. docs/checkpoints.md lists the keys.
struct CheckpointManifest {
  static constexpr std::int64_t kFormatVersion = 1;

  TrainerState state;
  ModelConfig model;
  TrainingConfig training;
  int world = 1;         ///< ranks that wrote it; any number may read it
  std::string software;  ///< that wrote it
  std::map<std::string, StoredFile> files;

  friend bool operator==(const CheckpointManifest&, const CheckpointManifest&) = default;
};

/// @throws FileError.
void write_manifest(const CheckpointManifest& manifest, const std::filesystem::path& directory);
/// @throws InputError for a manifest of another format or version, or one that lacks a file; FileError.
[[nodiscard]] CheckpointManifest read_manifest(const std::filesystem::path& directory);

/// Over all bytes of a file: finds accidents, not forgeries. @throws FileError.
[[nodiscard]] std::uint64_t file_checksum(const std::filesystem::path& path);

/// Compares sizes, and checksums too if `reads_files`, with the files in `directory`.
/// @throws InputError that names the first file that is another.
void check_files(const CheckpointManifest& manifest, const std::filesystem::path& directory,
                 bool reads_files);

}  // namespace flex
