#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "models/model_config.h"

namespace flex {

/// How published files differ in the names of the same parameters.
/// @source checkpoint_filter_fn in timm's swin_transformer_v2.py; models/swin_transformer_moe.py of
/// microsoft/Swin-Transformer
struct ParameterNaming {
  bool has_fc_head = true;       ///< `head.fc.weight`, or else `head.weight`
  bool merges_before = true;     ///< merging i is the next stage's, `layers.{i + 1}.downsample`, or else
                                 ///< `layers.{i}.downsample`
  bool is_released_moe = false;  ///< `mlp._moe_layer.`, or else `mlp.moe.`
  friend bool operator==(const ParameterNaming&, const ParameterNaming&) = default;
};

/// timm's names, and those of the Swin Transformer repository with its Swin-MoE.
inline constexpr ParameterNaming kTimmNaming{};
inline constexpr ParameterNaming kSwinMoeNaming{
    .has_fc_head = false, .merges_before = false, .is_released_moe = true};
/// Flex's own: a swinv2 model has timm's names, a swin_moe model the released ones.
[[nodiscard]] ParameterNaming naming_of(BlockKind block);

/// The naming of a file, told by the names in it: each of the three by itself, since versions mix them.
[[nodiscard]] ParameterNaming naming_of(std::span<const std::string> names);
/// The block of a file: swinv2 has the factors of cosine attention.
[[nodiscard]] BlockKind block_of(std::span<const std::string> names);

/// A name of one naming in another; names that are alike in all stay. `gates.0.` may be `gate.` in a file.
[[nodiscard]] std::string renamed(std::string_view name, const ParameterNaming& from,
                                  const ParameterNaming& to);

/// True for what published files hold beside parameters, and a model makes by itself: the coordinates, index
/// and mask of windows, and Tutel's number of experts.
[[nodiscard]] bool is_buffer(std::string_view name);
/// `mlp.moe.` or `mlp._moe_layer.` with all before it, of a MoE layer's tensor.
[[nodiscard]] std::optional<std::string> moe_prefix(std::string_view name);
/// True for a tensor that has an expert for each of its first extent.
[[nodiscard]] bool is_of_experts(std::string_view name);

inline constexpr std::string_view kCoordinatesBuffer = ".attn.relative_coords_table";
inline constexpr std::string_view kIndexBuffer = ".attn.relative_position_index";
inline constexpr std::string_view kMaskBuffer = ".attn_mask";
inline constexpr std::string_view kNumExpertsBuffer = "_num_global_experts";

}  // namespace flex
