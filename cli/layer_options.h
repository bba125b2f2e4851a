#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "runtime/layer_shapes.h"
#include "runtime/moe_config.h"

namespace flex::cli {

/// The shape of a layer on the command line, with the same names in every subcommand.
struct LayerOptions {
  std::int64_t tokens = 1024;
  std::int64_t model_dim = 128;
  std::int64_t hidden_dim = 256;
  std::int64_t experts = 2;
  std::int64_t top_k = 2;
  double capacity_factor = 1.0;
  std::string dtype = "fp32";
  std::string gate = "linear";
  std::string activation = "gelu";
  std::string loss = "gshard";
  bool batch_prioritized = false;

  [[nodiscard]] MoeConfig config() const;
  [[nodiscard]] LayerShape shape() const;
  /// Of the forward pass, on `world` ranks with as many tokens each.
  /// @param needed_capacity with f <= 0: slots that the fullest expert needs; nothing: as if balanced.
  /// @throws InputError for what cannot be, in the words of the options.
  [[nodiscard]] Workload workload(int world, std::optional<std::int64_t> needed_capacity = {}) const;
  /// One line for people; `experts_text` where the number of experts is not that of the options.
  [[nodiscard]] std::string text(const std::string& experts_text = {}) const;
  [[nodiscard]] nlohmann::ordered_json json() const;
};

void add_layer_options(CLI::App& command, LayerOptions& options);

}  // namespace flex::cli
