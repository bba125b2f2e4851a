#pragma once

#include <filesystem>
#include <vector>

#include "cli/layer_options.h"

namespace flex::cli {

/// Layers out of a JSON file whose keys are the layer options with underscores, each with a value or a list
/// of values: `{"tokens": [1024, 4096], "hidden_dim": [512, 2048], "dtype": "fp32"}` are four layers. What
/// the file leaves out is as in `base`. In the order of the lists; of the options, as
/// `flexmoe bench --help` lists them, the last changes fastest.
/// @throws InputError that names the file and the key; FileError.
[[nodiscard]] std::vector<LayerOptions> read_layer_grid(const std::filesystem::path& file,
                                                        const LayerOptions& base);

}  // namespace flex::cli
