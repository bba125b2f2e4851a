#include "runtime/layer_file.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/json_object.h"
#include "base/require.h"

namespace flex {
namespace {

constexpr std::string_view kParameterPrefix = "param.";

Shape shape_of(const SafetensorsTensor& tensor) {
  require(tensor.shape.size() <= Shape::kMaxRank, "tensor {} has {} dimensions, at most {} are expected",
          tensor.name, tensor.shape.size(), Shape::kMaxRank);
  switch (tensor.shape.size()) {
    case 0:
      return {1};
    case 1:
      return {tensor.shape[0]};
    case 2:
      return {tensor.shape[0], tensor.shape[1]};
    case 3:
      return {tensor.shape[0], tensor.shape[1], tensor.shape[2]};
    default:
      return {tensor.shape[0], tensor.shape[1], tensor.shape[2], tensor.shape[3]};
  }
}

bool has(const LayerDescription& layer, std::string_view parameter) {
  return std::ranges::any_of(layer.parameters, [&](const auto& entry) { return entry.first == parameter; });
}

GateLossKind loss_kind(const std::string& text) {
  // These files mean the definition that the published model was trained with.
  return text == "load_importance" ? GateLossKind::kLoadImportanceReleased : *parse_gate_loss(text);
}

// (E, H, M) of the experts' first matrix.
std::vector<std::int64_t> expert_shape(const LayerDescription& layer) {
  for (const auto& [name, tensor] : layer.parameters) {
    if ((name == "experts.batched_fc1_w" || name == "experts.w1") && tensor.shape.size() == 3)
      return tensor.shape;
  }
  fail("the tensor {}experts.batched_fc1_w or {}experts.w1 of shape [E, H, M] is missing", kParameterPrefix,
       kParameterPrefix);
}

// A size that the configuration may leave to the shapes.
std::int64_t size_or(JsonObject& json, std::string_view key, std::int64_t from_shape) {
  return json.optional<std::int64_t>(key, JsonRange::at_least(1)).value_or(from_shape);
}

// What both kinds of file say of the layer.
LayerDescription read_description(JsonObject& json, std::vector<SafetensorsTensor>& tensors) {
  LayerDescription layer;
  for (SafetensorsTensor& tensor : tensors) {
    if (!tensor.name.starts_with(kParameterPrefix)) continue;
    layer.parameters.emplace_back(tensor.name.substr(kParameterPrefix.size()), tensor);
  }
  std::erase_if(tensors, [](const SafetensorsTensor& t) { return t.name.starts_with(kParameterPrefix); });

  MoeConfig& config = layer.config;
  const std::vector<std::int64_t> experts = expert_shape(layer);
  config.num_experts = size_or(json, "num_experts", experts[0]);
  config.hidden_dim = size_or(json, "hidden_dim", experts[1]);
  config.model_dim = size_or(json, "model_dim", experts[2]);
  const auto indices = std::ranges::find(tensors, "indices", &SafetensorsTensor::name);
  const bool shows_top_k = indices != tensors.end() && indices->shape.size() == 2;
  layer.call.top_k = shows_top_k ? size_or(json, "top_k", indices->shape[1])
                                 : json.required<std::int64_t>("top_k", JsonRange::at_least(1));
  layer.call.capacity_factor = json.optional<double>("capacity_factor").value_or(1.0);
  config.batch_prioritized_routing = json.optional<bool>("batch_prioritized_routing").value_or(false);
  config.normalize_gate = json.optional<bool>("normalize_gate").value_or(true);
  config.is_postscore = json.optional<bool>("is_postscore").value_or(true);
  config.gate_noise = json.optional<double>("gate_noise", JsonRange::at_least(0)).value_or(0.0);
  config.z_loss_weight = json.optional<double>("z_loss_weight", JsonRange::at_least(0)).value_or(0.0);
  layer.call.add_noise = json.optional<bool>("noise_added_to_logits").value_or(false);
  const std::string gate = json.optional_one_of("gate", {"top", "linear", "cosine"}).value_or("linear");
  config.gate = gate == "cosine" ? GateKind::kCosine : GateKind::kLinear;
  const std::string activation =
      json.optional_one_of("activation", {"gelu", "relu", "silu", "swiglu"}).value_or("gelu");
  config.ffn = activation == "swiglu" || has(layer, "experts.w1") ? FfnKind::kGated : FfnKind::kStandard;
  if (activation != "swiglu") config.activation = *parse_activation(activation);
  config.gate_loss = loss_kind(
      json.optional_one_of("aux_loss", {"none", "gshard", "load_importance", "load_importance_released"})
          .value_or("gshard"));
  for (const auto& [name, tensor] : layer.parameters) {
    if (name == "gate.cosine_projector.weight" && !tensor.shape.empty())
      config.projection_dim = tensor.shape[0];
  }
  config.fc2_bias = has(layer, "experts.batched_fc2_bias") ? Fc2Bias::kTrained : Fc2Bias::kNone;
  return layer;
}

JsonObject parse_config(const SafetensorsFile& file, const std::string& key) {
  require(file.metadata().contains(key), "the file's metadata has no {}: it does not describe a training run",
          quote_name(key));
  return {parse_json(file.metadata().at(key), "metadata " + quote_name(key)), "metadata " + quote_name(key)};
}

const SafetensorsTensor& need(const std::vector<SafetensorsTensor>& tensors, std::string_view name) {
  const auto found = std::ranges::find(tensors, name, &SafetensorsTensor::name);
  require(found != tensors.end(), "tensor {} is missing", quote_name(std::string(name)));
  return *found;
}

void require_shape(const std::string& place, const SafetensorsTensor& tensor,
                   std::vector<std::int64_t> expected) {
  require(tensor.shape == expected, "{}{} has shape [{}], expected [{}]", place, tensor.name,
          fmt::join(tensor.shape, ", "), fmt::join(expected, ", "));
}

}  // namespace

bool is_training_curve(const SafetensorsFile& file) {
  return file.metadata().contains("config") && file.find("losses") != nullptr;
}

std::vector<LayerCase> read_layer_cases(const SafetensorsFile& file) {
  std::vector<LayerCase> cases;
  for (const auto& [name, text] : file.metadata()) {
    LayerCase result{.name = name};
    for (SafetensorsTensor tensor : file.tensors()) {
      if (!tensor.name.starts_with(name + "/")) continue;
      tensor.name = tensor.name.substr(name.size() + 1);
      result.tensors.push_back(tensor);
    }
    require(!result.tensors.empty(), "metadata {}: the file holds no tensor {}/...", quote_name(name), name);
    JsonObject json = parse_config(file, name);
    const SafetensorsTensor& x = need(result.tensors, "x");
    const auto tokens = json.optional<std::int64_t>("tokens", JsonRange::at_least(0))
                            .value_or(x.shape.empty() ? 0 : x.shape[0]);
    result.layer = read_description(json, result.tensors);
    result.loss_gradient = json.optional<double>("aux_weight_in_backward").value_or(0.0);
    result.capacity = json.optional<std::int64_t>("capacity", JsonRange::at_least(0)).value_or(-1);
    json.finish();
    for (const char* input : {"x", "dy"}) {
      require_shape(name + "/", need(result.tensors, input), {tokens, result.layer.config.model_dim});
    }
    cases.push_back(std::move(result));
  }
  for (const SafetensorsTensor& tensor : file.tensors()) {
    const std::string owner = tensor.name.substr(0, tensor.name.find('/'));
    require(file.metadata().contains(owner), "tensor {} belongs to no case of the metadata",
            quote_name(tensor.name));
  }
  require(!cases.empty(), "the file's metadata describes no case");
  return cases;
}

TrainingCurve read_training_curve(const SafetensorsFile& file) {
  TrainingCurve curve;
  JsonObject json = parse_config(file, "config");
  std::vector<SafetensorsTensor> tensors(file.tensors().begin(), file.tensors().end());
  curve.layer = read_description(json, tensors);
  curve.aux_weight = json.optional<double>("aux_weight").value_or(0.0);
  curve.learning_rate = json.required<double>("lr", JsonRange::above(0));
  curve.batch = json.required<std::int64_t>("batch", JsonRange::at_least(1));
  const auto tokens = json.required<std::int64_t>("tokens", JsonRange::at_least(1));
  const auto steps = json.required<std::int64_t>("steps", JsonRange::at_least(1));
  static_cast<void>(json.one_of("optimizer", {"SGD"}));
  static_cast<void>(json.one_of("loss", {"nll(log_softmax(sum over model_dim), y)"}));
  json.finish();
  if (tokens % curve.batch != 0)
    json.reject("tokens", "is {}; it must be a multiple of batch {}", tokens, curve.batch);
  curve.sequence = tokens / curve.batch;

  const SafetensorsTensor& x = need(tensors, "x");
  const SafetensorsTensor& y = need(tensors, "y");
  const SafetensorsTensor& losses = need(tensors, "losses");
  require_shape("", x, {curve.batch, curve.sequence, curve.layer.config.model_dim});
  require_shape("", y, {curve.batch});
  require_shape("", losses, {steps});
  curve.x = x.values<float>();
  curve.labels = y.values<std::int32_t>();
  curve.losses = losses.values<float>();
  for (const std::int32_t label : curve.labels) {
    require(label >= 0 && label < curve.sequence, "y holds the label {}; labels are 0 to {}", label,
            curve.sequence - 1);
  }
  for (const SafetensorsTensor& tensor : tensors) {
    if (tensor.name != "x" && tensor.name != "y" && tensor.name != "losses")
      curve.uncompared.push_back(tensor);
  }
  return curve;
}

void load_parameters(const LayerDescription& description, MoeLayer& layer) {
  for (const Parameter& parameter : layer.parameters().all()) {
    require(has(description, parameter.name), "tensor {}{} is missing", kParameterPrefix, parameter.name);
  }
  for (const auto& [name, tensor] : description.parameters) {
    Parameter& parameter = layer.parameters().at(name);
    const Shape shape = shape_of(tensor);
    require(shape == parameter.full_shape, "tensor {} has shape {}, expected {}", tensor.name,
            to_string(shape), to_string(parameter.full_shape));
    const std::vector<float> values = tensor.values<float>();
    load_parameter(parameter, ConstTensorView(values.data(), DType::kF32, shape));
  }
}

}  // namespace flex
