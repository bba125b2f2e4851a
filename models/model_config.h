#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/moe/expert_ffn.h"
#include "kernels/nn/window_map.h"
#include "runtime/moe_config.h"

namespace flex {

class JsonObject;

/// The two blocks that are published. @source numerics.md "SwinV2-MoE"
enum class BlockKind : std::uint8_t {
  kSwinV2,   ///< res-post-norm, cosine attention, bounded position bias, biases for q and v, fc2 bias
  kSwinMoe,  ///< pre-norm, scaled dot product, plain position bias, biases for q, k and v, no fc2 bias
};
/// swinv2, swin_moe.
[[nodiscard]] std::string_view name(BlockKind kind);

/// One block of the model, both counted from 0. Written `[stage, block]`.
struct BlockPlace {
  std::int64_t stage = 0;
  std::int64_t block = 0;
  friend constexpr auto operator<=>(const BlockPlace&, const BlockPlace&) = default;
};

/// How many experts a token goes to, and how much room they have.
struct Routing {
  std::int64_t top_k = 1;         ///< k
  double capacity_factor = 1.25;  ///< f: > 0 fixed capacity, 0 dropless, < 0 dropless up to a limit
  friend bool operator==(const Routing&, const Routing&) = default;
};

/// The MoE layers, which stand where the blocks' MLPs would.
struct ModelMoe {
  std::vector<BlockPlace> blocks;  ///< ascending; empty: a dense model
  std::int64_t num_experts = 0;    ///< E
  Routing training;
  Routing inference;
  GateKind gate = GateKind::kCosine;
  std::int64_t projection_dim = 256;
  double initial_temperature = 0.5;
  double gate_noise = 0.0;
  bool add_noise = true;  ///< draw it in training; without, gate_noise only enters the auxiliary loss
  bool normalize_gate = false;
  /// Share of the elements of what experts give their tokens that training drops: of the layer's output (T,
  /// C), after the experts of a token were added up. Not of the experts' hidden rows, as in the released
  /// model: those lie on other ranks than their tokens, in places that the plan decides.
  double expert_dropout = 0.0;
  bool batch_prioritized_routing = true;
  GateLossKind gate_loss = GateLossKind::kGshard;
  double z_loss_weight = 0.0;
  double loss_weight = 0.01;  ///< of the sum of the layers' auxiliary losses
  LossScope loss_scope = LossScope::kGlobal;
  bool regather_weights = false;

  friend bool operator==(const ModelMoe&, const ModelMoe&) = default;
};

/// A SwinV2-MoE model. A plain value; every rank describes it alike.
struct ModelConfig {
  static constexpr std::int64_t kNumStages = 4;
  static constexpr std::int64_t kPatchSize = 4;
  static constexpr std::int64_t kImageChannels = 3;
  static constexpr std::int64_t kPositionHidden = 512;  ///< columns of the position bias' net
  /// Rows that patch merging joins into one, and how much wider that one leaves.
  static constexpr std::int64_t kMergedRows = 4;
  static constexpr std::int64_t kStageWidening = 2;

  std::string name = "model";
  BlockKind block = BlockKind::kSwinV2;
  std::int64_t image_size = 192;                                ///< rows and columns
  std::int64_t window_size = 12;                                ///< rows and columns; clamped to the map
  std::vector<std::int64_t> pretrained_windows = {0, 0, 0, 0};  ///< of each stage; 0: as window_size
  std::int64_t embed_dim = 96;                                  ///< C of stage 0
  std::vector<std::int64_t> depths = {2, 2, 6, 2};              ///< blocks of each stage
  std::vector<std::int64_t> num_heads = {3, 6, 12, 24};         ///< of each stage
  std::int64_t mlp_ratio = 4;                                   ///< hidden over model dim
  std::int64_t num_classes = 1000;
  double drop_path = 0.0;                     ///< of the last block; it rises linearly from 0 at the first
  std::vector<BlockPlace> checkpointed{};     ///< ascending: blocks that compute again in the backward pass
  Activation activation = Activation::kGelu;  ///< of MLPs and experts
  ModelMoe moe{};

  [[nodiscard]] bool is_pre_norm() const { return block == BlockKind::kSwinMoe; }
  [[nodiscard]] bool has_fc2_bias() const { return block == BlockKind::kSwinV2; }
  /// C of a stage.
  [[nodiscard]] std::int64_t dim(std::int64_t stage) const;
  /// Positions of a stage's blocks.
  [[nodiscard]] Extent map(std::int64_t stage) const;
  [[nodiscard]] WindowLayout window(BlockPlace place) const;
  [[nodiscard]] bool is_moe(BlockPlace place) const;
  [[nodiscard]] bool is_checkpointed(BlockPlace place) const;
  /// Stage before whose blocks (swinv2), or after whose (swin_moe), patches are merged.
  [[nodiscard]] bool merges_before(std::int64_t stage) const;
  [[nodiscard]] bool merges_after(std::int64_t stage) const;
  [[nodiscard]] std::int64_t num_blocks() const;
  /// All blocks in the order in which they run.
  [[nodiscard]] std::vector<BlockPlace> all_blocks() const;
  /// Rate at which a block's two branches are dropped in training.
  [[nodiscard]] double drop_path_of(BlockPlace place) const;

  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;
};

/// The odd blocks of the last two stages.
[[nodiscard]] std::vector<BlockPlace> default_moe_blocks(const std::vector<std::int64_t>& depths);

/// One MoE layer of the model; `layer` counts MoE layers from 0.
[[nodiscard]] MoeConfig moe_layer_config(const ModelConfig& config, BlockPlace place, DType dtype,
                                         std::uint32_t layer, std::uint64_t seed);

/// @throws InputError that names the key of the first setting that cannot be, and what would be right.
void validate(const ModelConfig& config);

/// Reads the model's keys: `size` (tiny, small or base) or `embed_dim`, `depths` and `num_heads`, which also
/// change what a size says; the rest as the fields above are named, `moe` as an object. docs/models.md lists
/// them. Other keys are left for the caller, who calls finish(). @throws InputError.
[[nodiscard]] ModelConfig read_model_config(JsonObject& json);

}  // namespace flex
