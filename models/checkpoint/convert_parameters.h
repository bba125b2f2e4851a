#pragma once

#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

#include "models/checkpoint/parameter_files.h"

namespace flex {

/// Whose names a file is to have.
enum class NameConvention : std::uint8_t {
  kFlex,     ///< the model's own: timm's for a swinv2 model, the released ones for a swin_moe model
  kTimm,     ///< timm's SwinV2
  kSwinMoe,  ///< the Swin Transformer repository's, with Tutel's numbers of experts
};
[[nodiscard]] std::optional<NameConvention> parse_name_convention(
    std::string_view text);  ///< flex, timm, swin_moe

/// Writes parameters under the names of `convention`, in the types that they have. Buffers that a model makes
/// by itself are left out. With `num_ranks` > 0 what is no expert's goes to `output`, NAME.safetensors, and
/// the experts of each rank to NAME.rank0.safetensors and so on: whole ones, or with more ranks than experts
/// slices, as ParameterFiles reads them. Returns what was written. Each file is atomic, `output` the last.
/// @throws InputError for names that are no model's, or ranks that do not divide the experts; FileError.
std::vector<std::filesystem::path> convert_parameters(const ParameterFiles& files,
                                                      const std::filesystem::path& output,
                                                      NameConvention convention, int num_ranks = 0);

}  // namespace flex
