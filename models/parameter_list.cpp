#include "models/parameter_list.h"

#include <fmt/format.h>

#include <algorithm>

namespace flex {
namespace {

class ParameterLister {
 public:
  explicit ParameterLister(const ModelConfig& config) : config_(config) {}

  std::vector<ParameterSpec> list() {
    linear("patch_embed.proj.",
           {config_.embed_dim, ModelConfig::kImageChannels, ModelConfig::kPatchSize, ModelConfig::kPatchSize},
           true);
    norm("patch_embed.norm.", config_.embed_dim);
    for (std::int64_t stage = 0; stage < ModelConfig::kNumStages; ++stage) {
      if (config_.merges_before(stage)) merging(stage, config_.dim(stage - 1));
      for (std::int64_t i = 0; i < config_.depths[static_cast<std::size_t>(stage)]; ++i) block({stage, i});
      if (config_.merges_after(stage)) merging(stage, config_.dim(stage));
    }
    const std::int64_t last = config_.dim(ModelConfig::kNumStages - 1);
    norm("norm.", last);
    linear(head_prefix(config_.block), {config_.num_classes, last}, true);
    return std::move(list_);
  }

 private:
  void add(std::string name, Shape shape, ParameterStart start = ParameterStart::kNormal,
           bool is_wide = false) {
    list_.push_back({.name = std::move(name), .shape = shape, .start = start, .is_wide = is_wide});
  }

  void linear(const std::string& prefix, Shape shape, bool bias) {
    add(prefix + "weight", shape);
    if (bias) add(prefix + "bias", {shape[0]}, ParameterStart::kZero);
  }

  void norm(const std::string& prefix, std::int64_t dim, ParameterStart start = ParameterStart::kOne) {
    add(prefix + "weight", {dim}, start, true);
    add(prefix + "bias", {dim}, ParameterStart::kZero, true);
  }

  void merging(std::int64_t stage, std::int64_t dim) {
    const std::string prefix = merging_prefix(stage);
    const std::int64_t joined = ModelConfig::kMergedRows * dim;
    const std::int64_t merged = ModelConfig::kStageWidening * dim;
    if (config_.is_pre_norm()) norm(prefix + "norm.", joined);
    linear(prefix + "reduction.", {merged, joined}, false);
    if (!config_.is_pre_norm()) norm(prefix + "norm.", merged);
  }

  // A res-post-norm branch begins as nothing, as in the published SwinV2.
  void block_norm(const std::string& prefix, std::int64_t dim) {
    norm(prefix, dim, config_.is_pre_norm() ? ParameterStart::kOne : ParameterStart::kZero);
  }

  void block(BlockPlace place) {
    const std::string prefix = block_prefix(place);
    const std::int64_t dim = config_.dim(place.stage);
    if (config_.is_pre_norm()) block_norm(prefix + "norm1.", dim);
    attention(place);
    if (!config_.is_pre_norm()) block_norm(prefix + "norm1.", dim);
    if (config_.is_pre_norm()) block_norm(prefix + "norm2.", dim);
    if (config_.is_moe(place)) {
      moe(place);
    } else {
      const std::int64_t hidden = config_.mlp_ratio * dim;
      linear(prefix + "mlp.fc1.", {hidden, dim}, true);
      linear(prefix + "mlp.fc2.", {dim, hidden}, config_.has_fc2_bias());
    }
    if (!config_.is_pre_norm()) block_norm(prefix + "norm2.", dim);
  }

  void attention(BlockPlace place) {
    const std::string prefix = block_prefix(place) + "attn.";
    const std::int64_t dim = config_.dim(place.stage);
    const std::int64_t heads = config_.num_heads[static_cast<std::size_t>(place.stage)];
    constexpr std::int64_t kHidden = ModelConfig::kPositionHidden;
    if (config_.block == BlockKind::kSwinV2) {
      add(prefix + "logit_scale", {heads, 1, 1}, ParameterStart::kLogTen, true);
    }
    add(prefix + "cpb_mlp.0.weight", {kHidden, 2}, ParameterStart::kNormal, true);
    add(prefix + "cpb_mlp.0.bias", {kHidden}, ParameterStart::kZero, true);
    add(prefix + "cpb_mlp.2.weight", {heads, kHidden}, ParameterStart::kNormal, true);
    linear(prefix + "qkv.", {3 * dim, dim}, config_.block == BlockKind::kSwinMoe);
    if (config_.block == BlockKind::kSwinV2) {
      add(prefix + "q_bias", {dim}, ParameterStart::kZero);
      add(prefix + "v_bias", {dim}, ParameterStart::kZero);
      list_.back().zeros_before = dim;
    }
    linear(prefix + "proj.", {dim, dim}, true);
  }

  void moe_parameter(BlockPlace place, ParameterHome home, std::string_view layer_name, Shape shape) {
    const bool released = config_.block == BlockKind::kSwinMoe;
    // Gates are a list in the checkpoints, since Tutel has several for one layer.
    std::string tail(layer_name);
    if (home == ParameterHome::kGate) tail.replace(0, std::string_view("gate").size(), "gates.0");
    list_.push_back(
        {.name = fmt::format("{}mlp.{}.{}", block_prefix(place), released ? "_moe_layer" : "moe", tail),
         .shape = shape,
         .home = home,
         .start = ParameterStart::kMoeLayer,
         .is_wide = home == ParameterHome::kGate,
         .place = place,
         .layer_name = std::string(layer_name)});
  }

  void moe(BlockPlace place) {
    const std::int64_t dim = config_.dim(place.stage);
    const std::int64_t hidden = config_.mlp_ratio * dim;
    const std::int64_t experts = config_.moe.num_experts;
    const std::int64_t projection = config_.moe.projection_dim;
    if (config_.moe.gate == GateKind::kLinear) {
      moe_parameter(place, ParameterHome::kGate, "gate.wg.weight", {experts, dim});
    } else {
      moe_parameter(place, ParameterHome::kGate, "gate.cosine_projector.weight", {projection, dim});
      moe_parameter(place, ParameterHome::kGate, "gate.cosine_projector.bias", {projection});
      moe_parameter(place, ParameterHome::kGate, "gate.sim_matrix", {projection, experts});
      moe_parameter(place, ParameterHome::kGate, "gate.temperature", {1});
    }
    moe_parameter(place, ParameterHome::kExperts, "experts.batched_fc1_w", {experts, hidden, dim});
    moe_parameter(place, ParameterHome::kExperts, "experts.batched_fc2_w", {experts, hidden, dim});
    moe_parameter(place, ParameterHome::kExperts, "experts.batched_fc1_bias", {experts, hidden});
    moe_parameter(place, ParameterHome::kExperts, "experts.batched_fc2_bias", {experts, dim});
    list_.back().trained = config_.has_fc2_bias();
  }

  const ModelConfig& config_;
  std::vector<ParameterSpec> list_;
};

}  // namespace

std::vector<ParameterSpec> parameter_list(const ModelConfig& config) {
  return ParameterLister(config).list();
}

std::string block_prefix(BlockPlace place) {
  return fmt::format("layers.{}.blocks.{}.", place.stage, place.block);
}

std::string merging_prefix(std::int64_t stage) { return fmt::format("layers.{}.downsample.", stage); }

std::string head_prefix(BlockKind kind) { return kind == BlockKind::kSwinV2 ? "head.fc." : "head."; }

bool decays(const ParameterSpec& spec, const std::vector<std::string>& no_decay) {
  return spec.shape.rank() > 1 && std::ranges::none_of(no_decay, [&](const std::string& part) {
           return spec.name.find(part) != std::string::npos;
         });
}

}  // namespace flex
