#include "models/model_config.h"

#include <algorithm>
#include <numeric>

#include "base/require.h"
#include "kernels/nn/window_attention.h"

namespace flex {
namespace {

void check_stages(const std::vector<std::int64_t>& values, std::string_view key, std::int64_t least) {
  require(std::ssize(values) == ModelConfig::kNumStages,
          "{}: has {} entries; it must have one for each of the {} stages", key, values.size(),
          ModelConfig::kNumStages);
  for (const std::int64_t value : values)
    require(value >= least, "{}: holds {}; its entries must be at least {}", key, value, least);
}

void check_places(const ModelConfig& config, const std::vector<BlockPlace>& places, std::string_view key) {
  for (std::size_t i = 0; i < places.size(); ++i) {
    const auto [stage, block] = places[i];
    require(stage >= 0 && stage < ModelConfig::kNumStages, "{}: names stage {}; stages are 0 to {}", key,
            stage, ModelConfig::kNumStages - 1);
    const std::int64_t depth = config.depths[static_cast<std::size_t>(stage)];
    require(block >= 0 && block < depth, "{}: names block {} of stage {}; its blocks are 0 to {}", key, block,
            stage, depth - 1);
    require(i == 0 || places[i - 1] < places[i], "{}: [{}, {}] is out of order or there twice", key, stage,
            block);
  }
}

void check_window(const ModelConfig& config) {
  require(config.window_size >= 1, "window_size: is {}; it must be at least 1", config.window_size);
  const std::int64_t positions = WindowLayout::fit(config.map(0), config.window_size, false).window_size();
  require(positions <= kMaxWindowSize, "window_size: is {}: windows of {} positions; they have at most {}",
          config.window_size, positions, kMaxWindowSize);
}

void check_routing(const Routing& routing, std::int64_t num_experts, std::string_view key) {
  require(routing.top_k >= 1 && routing.top_k <= num_experts,
          "moe.{}top_k: is {}; with {} experts it must be from 1 to {}", key, routing.top_k, num_experts,
          num_experts);
}

void check_moe(const ModelConfig& config) {
  const ModelMoe& moe = config.moe;
  check_places(config, moe.blocks, "moe.blocks");
  if (moe.blocks.empty()) return;
  require(moe.num_experts >= 1, "moe.num_experts: is {}; it must be at least 1", moe.num_experts);
  check_routing(moe.training, moe.num_experts, "");
  check_routing(moe.inference, moe.num_experts, "inference_");
  require(moe.expert_dropout >= 0 && moe.expert_dropout < 1,
          "moe.expert_dropout: is {}; it must be at least 0 and below 1", moe.expert_dropout);
  require(moe.loss_weight >= 0, "moe.loss_weight: is {}; it must be at least 0", moe.loss_weight);
  try {
    validate(moe_layer_config(config, moe.blocks.front(), DType::kF32, 0, 0), 1);
  } catch (const InputError& error) {
    fail("moe: {}", error.what());
  }
}

std::size_t index_of(std::int64_t stage) { return static_cast<std::size_t>(stage); }

}  // namespace

std::string_view name(BlockKind kind) { return kind == BlockKind::kSwinV2 ? "swinv2" : "swin_moe"; }

std::int64_t ModelConfig::dim(std::int64_t stage) const { return embed_dim << stage; }

Extent ModelConfig::map(std::int64_t stage) const {
  std::int64_t side = image_size / kPatchSize;
  for (std::int64_t i = 0; i < stage; ++i) side = (side + 1) / 2;
  return {side, side};
}

WindowLayout ModelConfig::window(BlockPlace place) const {
  return WindowLayout::fit(map(place.stage), window_size, place.block % 2 == 1);
}

bool ModelConfig::is_moe(BlockPlace place) const { return std::ranges::binary_search(moe.blocks, place); }

bool ModelConfig::is_checkpointed(BlockPlace place) const {
  return std::ranges::binary_search(checkpointed, place);
}

bool ModelConfig::merges_before(std::int64_t stage) const { return block == BlockKind::kSwinV2 && stage > 0; }

bool ModelConfig::merges_after(std::int64_t stage) const {
  return block == BlockKind::kSwinMoe && stage + 1 < kNumStages;
}

std::int64_t ModelConfig::num_blocks() const {
  return std::accumulate(depths.begin(), depths.end(), std::int64_t{0});
}

std::vector<BlockPlace> ModelConfig::all_blocks() const {
  std::vector<BlockPlace> places;
  for (std::int64_t stage = 0; stage < kNumStages; ++stage) {
    for (std::int64_t i = 0; i < depths[index_of(stage)]; ++i) places.push_back({stage, i});
  }
  return places;
}

double ModelConfig::drop_path_of(BlockPlace place) const {
  if (num_blocks() < 2) return 0;
  const auto before = std::accumulate(depths.begin(), depths.begin() + place.stage, std::int64_t{0});
  return drop_path * static_cast<double>(before + place.block) / static_cast<double>(num_blocks() - 1);
}

std::vector<BlockPlace> default_moe_blocks(const std::vector<std::int64_t>& depths) {
  std::vector<BlockPlace> places;
  const std::int64_t stages = std::ssize(depths);
  for (std::int64_t stage = std::max<std::int64_t>(stages - 2, 0); stage < stages; ++stage) {
    for (std::int64_t block = 1; block < depths[index_of(stage)]; block += 2)
      places.push_back({stage, block});
  }
  return places;
}

MoeConfig moe_layer_config(const ModelConfig& config, BlockPlace place, DType dtype, std::uint32_t layer,
                           std::uint64_t seed) {
  const ModelMoe& moe = config.moe;
  const std::int64_t dim = config.dim(place.stage);
  return {.model_dim = dim,
          .hidden_dim = config.mlp_ratio * dim,
          .num_experts = moe.num_experts,
          .dtype = dtype,
          .gate = moe.gate,
          .projection_dim = moe.projection_dim,
          .initial_temperature = moe.initial_temperature,
          .gate_noise = moe.gate_noise,
          .normalize_gate = moe.normalize_gate,
          .batch_prioritized_routing = moe.batch_prioritized_routing,
          .activation = config.activation,
          .fc2_bias = config.has_fc2_bias() ? Fc2Bias::kTrained : Fc2Bias::kFrozen,
          .gate_loss = moe.gate_loss,
          .z_loss_weight = moe.z_loss_weight,
          .loss_scope = moe.loss_scope,
          .regather_weights = moe.regather_weights,
          .seed = seed,
          .layer = layer};
}

void validate(const ModelConfig& config) {
  const std::int64_t patch = ModelConfig::kPatchSize;
  require(config.image_size >= patch && config.image_size % patch == 0,
          "image_size: is {}; it must be a multiple of {}, such as {}", config.image_size, patch,
          std::max(patch, (config.image_size + patch - 1) / patch * patch));
  check_window(config);
  require(config.embed_dim >= 1, "embed_dim: is {}; it must be at least 1", config.embed_dim);
  check_stages(config.depths, "depths", 1);
  check_stages(config.num_heads, "num_heads", 1);
  check_stages(config.pretrained_windows, "pretrained_windows", 0);
  for (std::int64_t stage = 0; stage < ModelConfig::kNumStages; ++stage) {
    const std::int64_t heads = config.num_heads[index_of(stage)];
    require(config.dim(stage) % heads == 0, "num_heads: {} heads of stage {} do not divide its {} channels",
            heads, stage, config.dim(stage));
    require(config.dim(stage) / heads <= kMaxHeadDim,
            "num_heads: {} heads of stage {} have {} channels each; at most {}", heads, stage,
            config.dim(stage) / heads, kMaxHeadDim);
  }
  require(config.mlp_ratio >= 1, "mlp_ratio: is {}; it must be at least 1", config.mlp_ratio);
  require(config.num_classes >= 1, "num_classes: is {}; it must be at least 1", config.num_classes);
  require(config.drop_path >= 0 && config.drop_path < 1,
          "drop_path: is {}; it must be at least 0 and below 1", config.drop_path);
  check_places(config, config.checkpointed, "checkpointed");
  check_moe(config);
}

}  // namespace flex
