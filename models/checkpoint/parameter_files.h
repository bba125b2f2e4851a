#pragma once

#include <array>
#include <deque>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/safetensors.h"
#include "models/checkpoint/parameter_names.h"
#include "models/checkpoint/stored_tensor.h"

namespace flex {

/// The parameters of a model as files hold them, whole and under the files' names.
///
/// Read are: a safetensors file; the directory of a checkpoint; and `NAME.safetensors` (or
/// `NAME.master.safetensors`, or neither) with `NAME.rank0.safetensors`, `NAME.rank1.safetensors`, ..., of
/// which each holds the experts of one rank, or a slice of one expert, in rank order. Tensors stay in the
/// mapped files.
/// @source utils_moe.py of microsoft/Swin-Transformer, which writes `.pth.master` and `.pth.rank{N}`
class ParameterFiles {
 public:
  /// @throws InputError for a file of PyTorch's, a rank's file that is missing or does not go with the
  /// others, and what parse_safetensors() refuses; FileError.
  explicit ParameterFiles(const std::filesystem::path& path);

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  /// By name, in alphabetical order; those that lay in several files in their whole shape.
  [[nodiscard]] const std::vector<StoredTensor>& tensors() const { return tensors_; }
  /// Null if there is none.
  [[nodiscard]] const StoredTensor* find(std::string_view name) const;
  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }
  /// Files of ranks; 0: none.
  [[nodiscard]] int num_rank_files() const { return num_rank_files_; }
  /// The configuration, if the file tells it, as Flex's do. @throws InputError if it is damaged.
  [[nodiscard]] std::optional<ModelConfig> model() const;
  /// By stage, the window whose coordinates the position bias was trained with: told by the configuration or
  /// by the buffer of coordinates; nothing if the file tells neither.
  [[nodiscard]] std::optional<std::array<std::int64_t, ModelConfig::kNumStages>> position_windows() const;

 private:
  void add_ranks(const std::vector<std::filesystem::path>& paths);

  std::filesystem::path path_;
  std::deque<SafetensorsFile> files_;
  std::vector<StoredTensor> tensors_;
  std::vector<std::string> names_;
  int num_rank_files_ = 0;
};

/// The window whose coordinates a model's position bias sees in a stage.
[[nodiscard]] std::int64_t position_window(const ModelConfig& config, std::int64_t stage);

}  // namespace flex
