#include "models/config_json.h"

#include <nlohmann/json.hpp>
#include <string>

namespace flex {
namespace {

nlohmann::ordered_json places_json(const std::vector<BlockPlace>& places) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const BlockPlace place : places)
    rows.push_back(nlohmann::ordered_json::array({place.stage, place.block}));
  return rows;
}

nlohmann::ordered_json moe_json(const ModelMoe& moe) {
  return {{"num_experts", moe.num_experts},
          {"blocks", places_json(moe.blocks)},
          {"top_k", moe.training.top_k},
          {"capacity_factor", moe.training.capacity_factor},
          {"inference_top_k", moe.inference.top_k},
          {"inference_capacity_factor", moe.inference.capacity_factor},
          {"gate", name(moe.gate)},
          {"projection_dim", moe.projection_dim},
          {"initial_temperature", moe.initial_temperature},
          {"gate_noise", moe.gate_noise},
          {"add_noise", moe.add_noise},
          {"normalize_gate", moe.normalize_gate},
          {"expert_dropout", moe.expert_dropout},
          {"batch_prioritized_routing", moe.batch_prioritized_routing},
          {"aux_loss", name(moe.gate_loss)},
          {"z_loss_weight", moe.z_loss_weight},
          {"loss_weight", moe.loss_weight},
          {"loss_scope", moe.loss_scope == LossScope::kLocal ? "local" : "global"},
          {"regather_weights", moe.regather_weights}};
}

}  // namespace

nlohmann::ordered_json to_json(const ModelConfig& config) {
  nlohmann::ordered_json json = {{"name", config.name},
                                 {"block", name(config.block)},
                                 {"embed_dim", config.embed_dim},
                                 {"depths", config.depths},
                                 {"num_heads", config.num_heads},
                                 {"image_size", config.image_size},
                                 {"window_size", config.window_size},
                                 {"pretrained_windows", config.pretrained_windows},
                                 {"mlp_ratio", config.mlp_ratio},
                                 {"num_classes", config.num_classes},
                                 {"activation", name(config.activation)},
                                 {"drop_path", config.drop_path},
                                 {"checkpointed", places_json(config.checkpointed)}};
  if (config.moe.num_experts > 0) json["moe"] = moe_json(config.moe);
  return json;
}

nlohmann::ordered_json to_json(const TrainingConfig& config) {
  nlohmann::ordered_json json = {{"dtype", name(config.dtype)}, {"batch_size", config.batch_size}};
  const auto add_length = [&](const std::string& prefix, std::int64_t steps, double epochs) {
    if (epochs > 0) {
      json[prefix + "epochs"] = epochs;
    } else {
      json[prefix + "steps"] = steps;
    }
  };
  add_length("", config.steps, config.epochs);
  json["learning_rate"] = config.learning_rate;
  json["min_learning_rate"] = config.min_learning_rate;
  add_length("warmup_", config.warmup_steps, config.warmup_epochs);
  json["schedule"] = config.cosine_schedule ? "cosine" : "constant";
  json["weight_decay"] = config.weight_decay;
  json["no_decay"] = config.no_decay;
  json["frozen"] = config.frozen;
  json["beta1"] = config.beta1;
  json["beta2"] = config.beta2;
  json["epsilon"] = config.epsilon;
  json["clip_grad_norm"] = config.clip_grad_norm;
  json["label_smoothing"] = config.label_smoothing;
  json["average_decay"] = config.average_decay;
  json["loss_scale"] = config.loss_scale;
  json["dynamic_loss_scale"] = config.dynamic_loss_scale;
  json["seed"] = config.seed;
  return json;
}

nlohmann::ordered_json to_json(const ModelFile& file) {
  nlohmann::ordered_json json = to_json(file.model);
  json["training"] = to_json(file.training);
  json["data"] = to_json(file.data);
  json["run"] = to_json(file.run);
  return json;
}

}  // namespace flex
