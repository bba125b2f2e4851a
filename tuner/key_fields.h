#pragma once

#include "tuner/trial.h"

namespace flex {

/// Calls visit(name, field) for every field, in the order of the table's columns: one list for checksums,
/// rows and JSON alike.
template <class Value, class Visit>
void for_each_environment_field(Value& environment, Visit&& visit) {
  visit("device", environment.device);
  visit("intra_node", environment.intra_node);
  visit("inter_node", environment.inter_node);
  visit("driver", environment.driver);
  visit("cuda", environment.cuda);
  visit("nccl", environment.nccl);
  visit("build", environment.build);
  visit("world", environment.world);
  visit("ranks_per_node", environment.ranks_per_node);
  visit("ranks_per_device", environment.ranks_per_device);
}

template <class Value, class Visit>
void for_each_layer_field(Value& layer, Visit&& visit) {
  visit("num_experts", layer.num_experts);
  visit("top_k", layer.top_k);
  visit("model_dim", layer.model_dim);
  visit("hidden_dim", layer.hidden_dim);
  visit("dtype", layer.dtype);
  visit("ffn", layer.ffn);
  visit("fc1_bias", layer.fc1_bias);
  visit("fc2_bias", layer.fc2_bias);
  visit("train_fc2_bias", layer.train_fc2_bias);
  visit("is_postscore", layer.is_postscore);
  visit("gate", layer.gate);
  visit("projection_dim", layer.projection_dim);
  visit("gate_noise", layer.gate_noise);
  visit("gate_loss", layer.gate_loss);
  visit("global_loss_scope", layer.global_loss_scope);
  visit("dropless", layer.dropless);
  visit("regather_weights", layer.regather_weights);
}

/// Enumerations are stored and written by name.
[[nodiscard]] inline bool parse_field(std::string_view text, DType& field) {
  const auto found = parse_dtype(text);
  field = found.value_or(field);
  return found.has_value();
}
[[nodiscard]] inline bool parse_field(std::string_view text, FfnKind& field) {
  const auto found = parse_ffn_kind(text);
  field = found.value_or(field);
  return found.has_value();
}
[[nodiscard]] inline bool parse_field(std::string_view text, GateKind& field) {
  for (const GateKind kind : {GateKind::kLinear, GateKind::kCosine}) {
    if (text == name(kind)) {
      field = kind;
      return true;
    }
  }
  return false;
}

}  // namespace flex
