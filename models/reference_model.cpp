#include "models/reference_model.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/json_object.h"
#include "base/require.h"
#include "models/parameter_list.h"

namespace flex {
namespace {

constexpr std::string_view kConfig = "config";
constexpr std::string_view kParameter = "init.";

JsonObject config_of(const SafetensorsFile& file) {
  return {parse_json(file.metadata().at(std::string(kConfig)), "metadata config"), "metadata config"};
}

// The blocks that hold experts.
std::vector<BlockPlace> moe_blocks(const SafetensorsFile& file, const ModelConfig& config) {
  std::vector<BlockPlace> places;
  for (const BlockPlace place : config.all_blocks()) {
    const std::string prefix = std::string(kParameter) + block_prefix(place) + "mlp.";
    const bool has_experts = std::ranges::any_of(file.tensors(), [&](const SafetensorsTensor& tensor) {
      return tensor.name.starts_with(prefix) && tensor.name.find(".experts.") != std::string::npos;
    });
    if (has_experts) places.push_back(place);
  }
  return places;
}

// "load_importance (as released)" is what numerics call load_importance_released.
GateLossKind gate_loss_of(const std::string& text) {
  if (text.starts_with("load_importance")) return GateLossKind::kLoadImportanceReleased;
  const auto kind = parse_gate_loss(text);
  require(kind.has_value(), "metadata config: aux_loss: is {}; it must be gshard or load_importance",
          quote_name(text));
  return *kind;
}

ModelMoe read_moe(JsonObject& json, const SafetensorsFile& file, const ModelConfig& config) {
  ModelMoe moe;
  moe.blocks = moe_blocks(file, config);
  static_cast<void>(json.optional<std::string>("moe_blocks"));  // what the tensors say
  moe.num_experts = json.required<std::int64_t>("num_experts", JsonRange::at_least(1));
  moe.training.top_k = json.required<std::int64_t>("top_k", JsonRange::at_least(1));
  moe.training.capacity_factor = json.required<double>("capacity_factor");
  moe.inference = moe.training;
  moe.gate = json.one_of("gate", {"linear", "cosine"}) == "linear" ? GateKind::kLinear : GateKind::kCosine;
  if (moe.gate == GateKind::kCosine) {
    moe.projection_dim = json.required<std::int64_t>("cosine_proj_dim", JsonRange::at_least(1));
    moe.initial_temperature = json.required<double>("cosine_init_t", JsonRange::above(0));
  }
  moe.batch_prioritized_routing = json.required<bool>("batch_prioritized_routing");
  moe.normalize_gate = json.required<bool>("normalize_gate");
  moe.gate_loss = gate_loss_of(json.required<std::string>("aux_loss"));
  moe.gate_noise = json.optional<double>("gate_noise").value_or(0);
  moe.add_noise = json.optional<bool>("noise_added_to_logits").value_or(false);
  return moe;
}

// "1-d tensors, NAME, NAME" or "1-d tensors and names holding NAME, NAME".
std::vector<std::string> names_in(std::string text) {
  constexpr std::string_view kHolding = "holding ";
  const std::size_t list = text.find(kHolding);
  text.erase(0, list != std::string::npos ? list + kHolding.size() : text.find(", ") + 2);
  std::vector<std::string> names;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(", ", begin), text.size());
    names.push_back(text.substr(begin, end - begin));
    begin = end + 2;
  }
  return names;
}

TrainingConfig read_training(JsonObject json, std::int64_t batch) {
  TrainingConfig training;
  training.batch_size = batch;
  training.steps = std::max<std::int64_t>(1, json.required<std::int64_t>("steps", JsonRange::at_least(0)));
  static_cast<void>(json.one_of("optimizer", {"AdamW"}));
  training.learning_rate = json.required<double>("lr", JsonRange::above(0));
  training.cosine_schedule = false;
  training.weight_decay = json.required<double>("weight_decay", JsonRange::at_least(0));
  training.no_decay = names_in(json.required<std::string>("no_decay"));
  training.clip_grad_norm = json.required<double>("clip_grad_norm", JsonRange::at_least(0));
  static_cast<void>(json.optional<std::string>("batches"));
  json.finish();
  return training;
}

const SafetensorsTensor& tensor_of(const SafetensorsFile& file, std::string_view name,
                                   const std::vector<std::int64_t>& shape) {
  const SafetensorsTensor& tensor = file.at(name);
  const bool fits = std::ranges::equal(tensor.shape, shape, [](std::int64_t actual, std::int64_t expected) {
    return expected < 0 || actual == expected;
  });
  require(fits, "tensor {} has shape [{}], expected [{}] (-1: any)", name, fmt::join(tensor.shape, ", "),
          fmt::join(shape, ", "));
  return tensor;
}

void read_batches(const SafetensorsFile& file, ReferenceModel& reference) {
  const std::int64_t size = reference.model.image_size;
  const std::int64_t batch = reference.training.batch_size;
  const SafetensorsTensor& images =
      tensor_of(file, "images", {-1, batch, ModelConfig::kImageChannels, size, size});
  reference.num_batches = images.shape[0];
  require(reference.num_batches >= 1, "tensor images holds no batch");
  const SafetensorsTensor& labels = tensor_of(file, "labels", {reference.num_batches, batch});
  reference.images = images.values<float>();
  reference.labels = labels.values<std::int32_t>();
  for (const std::int32_t label : reference.labels) {
    require(label >= 0 && label < reference.model.num_classes,
            "labels holds the label {}; labels are 0 to {}", label, reference.model.num_classes - 1);
  }
}

}  // namespace

bool is_reference_model(const SafetensorsFile& file) {
  return file.metadata().contains(std::string(kConfig)) && config_of(file).contains("model");
}

ReferenceModel read_reference_model(const SafetensorsFile& file) {
  JsonObject json = config_of(file);
  ReferenceModel reference;
  ModelConfig& model = reference.model;
  model.name = json.one_of("model", {"swinv2", "swinv2_moe", "swin_moe_released"});
  model.block = model.name == "swin_moe_released" ? BlockKind::kSwinMoe : BlockKind::kSwinV2;
  reference.aux_is_weighted = model.block == BlockKind::kSwinMoe;
  model.image_size = json.required<std::int64_t>("img_size");
  const auto patch = json.required<std::int64_t>("patch_size");
  if (patch != ModelConfig::kPatchSize)
    json.reject("patch_size", "is {}; it must be {}", patch, ModelConfig::kPatchSize);
  model.window_size = json.required<std::int64_t>("window_size");
  if (auto windows = json.optional<std::vector<std::int64_t>>("pretrained_window_sizes"))
    model.pretrained_windows = std::move(*windows);
  model.embed_dim = json.required<std::int64_t>("embed_dim");
  model.depths = json.required<std::vector<std::int64_t>>("depths");
  model.num_heads = json.required<std::vector<std::int64_t>>("num_heads");
  model.mlp_ratio = json.required<std::int64_t>("mlp_ratio");
  model.num_classes = json.required<std::int64_t>("num_classes");
  if (const auto activation = json.optional_one_of("activation", {"gelu", "relu", "silu"}))
    model.activation = *parse_activation(*activation);
  if (json.optional<bool>("fc2_bias").value_or(model.has_fc2_bias()) != model.has_fc2_bias())
    json.reject("fc2_bias", "does not go with the model {}", model.name);
  if (json.contains("num_experts")) model.moe = read_moe(json, file, model);
  model.moe.loss_weight = json.required<double>("aux_weight", JsonRange::at_least(0));
  const auto batch = json.required<std::int64_t>("batch", JsonRange::at_least(1));
  reference.training = read_training(json.required<JsonObject>("train"), batch);
  json.finish();
  validate(model);
  read_batches(file, reference);
  for (const SafetensorsTensor& tensor : file.tensors()) {
    if (tensor.name == "images" || tensor.name == "labels") continue;
    (tensor.name.starts_with(kParameter) ? reference.parameters : reference.expected).push_back(&tensor);
  }
  return reference;
}

}  // namespace flex
