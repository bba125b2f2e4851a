#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "cli/model_plans.h"
#include "cli/rank_options.h"
#include "models/saved_model.h"

namespace flex::cli {

/// A model that somebody has kept, and how it infers, with the same names in every subcommand.
struct SavedModelOptions {
  std::string path;
  std::string config;    ///< a model file; empty: what the model tells of itself
  bool average = false;  ///< the moving average of the parameters instead
  std::string dtype;     ///< empty: that of training, or where the device does not compute in it fp32
  std::optional<std::int64_t> batch{};  ///< over all ranks; nothing: about that of training
  std::optional<std::int64_t> image_size{};
  std::optional<double> capacity_factor{};
  std::optional<std::int64_t> top_k{};
  bool batch_prioritized = false;
  bool token_order = false;
  RankOptions machine{.ranks = 1};
  ModelPlanOptions plans{};

  /// The model with what the options change, on as many ranks as they say. @throws InputError.
  [[nodiscard]] SavedModel open() const;
};

/// The model as first positional argument, and all options.
void add_saved_model_options(CLI::App& command, SavedModelOptions& options);

/// `run/checkpoints/step_00000040 (step 40)`, or the file's name.
[[nodiscard]] std::string description(const SavedModel& saved);

}  // namespace flex::cli
