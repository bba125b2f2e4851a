#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/tensor.h"
#include "models/model_config.h"

namespace flex {

/// Who holds a parameter.
enum class ParameterHome : std::uint8_t {
  kShared,   ///< the model: every rank the same
  kGate,     ///< a MoE layer: every rank the same
  kExperts,  ///< a MoE layer: each rank its shard
};

/// What a parameter begins as. MoE layers begin as MoeParameters says.
enum class ParameterStart : std::uint8_t {
  kZero,
  kOne,
  kNormal,  ///< N(0, 0.02)
  kLogTen,  ///< ln 10: the factor of cosine attention
  kMoeLayer,
};

/// One parameter of a model, whole.
struct ParameterSpec {
  std::string name;  ///< as checkpoints have it
  Shape shape;
  ParameterHome home = ParameterHome::kShared;
  ParameterStart start = ParameterStart::kNormal;
  bool trained = true;
  /// Kept in gate_dtype(dtype) instead of the model's type: norms, position bias, attention scale, gates.
  bool is_wide = false;
  /// Elements of zeros that the model holds between the parameter before and this one: the bias of k between
  /// those of q and v.
  std::int64_t zeros_before = 0;
  std::optional<BlockPlace> place{};  ///< of a MoE layer's
  std::string layer_name{};           ///< of a MoE layer's: its name there

  [[nodiscard]] std::int64_t num_elements() const { return shape.num_elements(); }
};

/// All parameters in the order in which a pass meets them. Names are timm's for swinv2 and those of the
/// released model for swin_moe; MoE layers' end in Tutel's names.
[[nodiscard]] std::vector<ParameterSpec> parameter_list(const ModelConfig& config);

/// Name of a block's tensors without their last part: `layers.2.blocks.1.`.
[[nodiscard]] std::string block_prefix(BlockPlace place);
/// `layers.2.downsample.`: the merging at the start (swinv2) or the end (swin_moe) of the stage.
[[nodiscard]] std::string merging_prefix(std::int64_t stage);
[[nodiscard]] std::string head_prefix(BlockKind kind);

/// True if weight decay applies: no to tensors of one axis, and to names that hold one of `no_decay`.
[[nodiscard]] bool decays(const ParameterSpec& spec, const std::vector<std::string>& no_decay);

}  // namespace flex
