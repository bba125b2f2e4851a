#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/json_object.h"
#include "base/require.h"
#include "models/model_config.h"

namespace flex {
namespace {

// Far above any model; a file with a slip of the keyboard neither overflows a product nor fills the memory.
const JsonRange kSize = JsonRange::between(1, 1 << 16);
const JsonRange kDepth = JsonRange::between(1, 256);
const JsonRange kRatio = JsonRange::between(1, 256);
const JsonRange kClasses = JsonRange::between(1, 1 << 24);
const JsonRange kNotNegative = JsonRange::at_least(0);

/// @source Liu et al., "Swin Transformer", 3.3
struct Size {
  std::string_view name;
  std::int64_t embed_dim;
  std::array<std::int64_t, ModelConfig::kNumStages> depths;
  std::array<std::int64_t, ModelConfig::kNumStages> num_heads;
};
constexpr std::array<Size, 3> kSizes = {{{"tiny", 96, {2, 2, 6, 2}, {3, 6, 12, 24}},
                                         {"small", 96, {2, 2, 18, 2}, {3, 6, 12, 24}},
                                         {"base", 128, {2, 2, 18, 2}, {4, 8, 16, 32}}}};

template <class T>
void read_into(T& field, JsonObject& json, std::string_view key, const JsonRange& range = {}) {
  if (auto value = json.optional<T>(key, range)) field = std::move(*value);
}

void read_dimensions(ModelConfig& config, JsonObject& json) {
  if (const auto size_name = json.optional_one_of("size", {"tiny", "small", "base"})) {
    const Size& size = *std::ranges::find(kSizes, *size_name, &Size::name);
    config.embed_dim = size.embed_dim;
    config.depths.assign(size.depths.begin(), size.depths.end());
    config.num_heads.assign(size.num_heads.begin(), size.num_heads.end());
    read_into(config.embed_dim, json, "embed_dim", kSize);
    read_into(config.depths, json, "depths", kDepth);
    read_into(config.num_heads, json, "num_heads", kSize);
    return;
  }
  config.embed_dim = json.required<std::int64_t>("embed_dim", kSize);
  config.depths = json.required<std::vector<std::int64_t>>("depths", kDepth);
  config.num_heads = json.required<std::vector<std::int64_t>>("num_heads", kSize);
}

// Lists are sorted here, so that a file may name blocks in any order; a block named twice is refused later.
std::optional<std::vector<BlockPlace>> read_places(JsonObject& json, std::string_view key) {
  const auto rows = json.optional<std::vector<std::vector<std::int64_t>>>(key);
  if (!rows) return std::nullopt;
  std::vector<BlockPlace> places;
  for (const std::vector<std::int64_t>& row : *rows) {
    if (row.size() != 2)
      json.reject(key, "has an entry of {} numbers; entries are [stage, block]", row.size());
    places.push_back({row[0], row[1]});
  }
  std::ranges::sort(places);
  return places;
}

GateLossKind read_gate_loss(JsonObject& json) {
  const auto text =
      json.optional_one_of("aux_loss", {"none", "gshard", "load_importance", "load_importance_released"});
  return text ? *parse_gate_loss(*text) : GateLossKind::kGshard;
}

ModelMoe read_moe(JsonObject json, const std::vector<std::int64_t>& depths) {
  ModelMoe moe;
  moe.num_experts = json.required<std::int64_t>("num_experts", kSize);
  moe.blocks = read_places(json, "blocks").value_or(default_moe_blocks(depths));
  read_into(moe.training.top_k, json, "top_k", kSize);
  read_into(moe.training.capacity_factor, json, "capacity_factor");
  moe.inference = moe.training;
  read_into(moe.inference.top_k, json, "inference_top_k", kSize);
  read_into(moe.inference.capacity_factor, json, "inference_capacity_factor");
  if (json.optional_one_of("gate", {"linear", "cosine"}) == "linear") moe.gate = GateKind::kLinear;
  read_into(moe.projection_dim, json, "projection_dim", kSize);
  read_into(moe.initial_temperature, json, "initial_temperature", JsonRange::above(0));
  read_into(moe.gate_noise, json, "gate_noise", kNotNegative);
  read_into(moe.add_noise, json, "add_noise");
  read_into(moe.normalize_gate, json, "normalize_gate");
  read_into(moe.expert_dropout, json, "expert_dropout", JsonRange::between(0, 1));
  read_into(moe.batch_prioritized_routing, json, "batch_prioritized_routing");
  moe.gate_loss = read_gate_loss(json);
  read_into(moe.z_loss_weight, json, "z_loss_weight", kNotNegative);
  read_into(moe.loss_weight, json, "loss_weight", kNotNegative);
  if (json.optional_one_of("loss_scope", {"global", "local"}) == "local") moe.loss_scope = LossScope::kLocal;
  read_into(moe.regather_weights, json, "regather_weights");
  json.finish();
  return moe;
}

// `all`, or a list. The depths have not been checked yet, which all_blocks() needs.
void read_checkpointed(ModelConfig& config, JsonObject& json) {
  if (!json.contains("checkpointed") || !json.raw("checkpointed").is_string()) {
    if (auto places = read_places(json, "checkpointed")) config.checkpointed = std::move(*places);
    return;
  }
  static_cast<void>(json.one_of("checkpointed", {"all"}));
  if (std::ssize(config.depths) == ModelConfig::kNumStages) config.checkpointed = config.all_blocks();
}

}  // namespace

ModelConfig read_model_config(JsonObject& json) {
  ModelConfig config;
  read_into(config.name, json, "name");
  config.block =
      json.one_of("block", {"swinv2", "swin_moe"}) == "swinv2" ? BlockKind::kSwinV2 : BlockKind::kSwinMoe;
  read_dimensions(config, json);
  read_into(config.image_size, json, "image_size", kSize);
  read_into(config.window_size, json, "window_size", kSize);
  read_into(config.pretrained_windows, json, "pretrained_windows", JsonRange::between(0, 1 << 16));
  read_into(config.mlp_ratio, json, "mlp_ratio", kRatio);
  read_into(config.num_classes, json, "num_classes", kClasses);
  read_into(config.drop_path, json, "drop_path", JsonRange::between(0, 1));
  if (const auto activation = json.optional_one_of("activation", {"gelu", "relu", "silu"}))
    config.activation = *parse_activation(*activation);
  read_checkpointed(config, json);
  if (auto moe = json.optional<JsonObject>("moe")) config.moe = read_moe(std::move(*moe), config.depths);
  try {
    validate(config);
  } catch (const InputError& error) {
    fail("{}: {}", json.place(), error.what());
  }
  return config;
}

}  // namespace flex
