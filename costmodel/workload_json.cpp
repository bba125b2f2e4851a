#include "costmodel/workload_json.h"

#include <nlohmann/json.hpp>

namespace flex {
namespace {

struct SizeField {
  const char* key;
  std::int64_t Workload::*of;
};
constexpr SizeField kSizes[] = {
    {"top_k", &Workload::top_k}, {"model_dim", &Workload::model_dim}, {"hidden_dim", &Workload::hidden_dim}};

struct FlagField {
  const char* key;
  bool Workload::*of;
};
constexpr FlagField kFlags[] = {{"fc1_bias", &Workload::fc1_bias},
                                {"fc2_bias", &Workload::fc2_bias},
                                {"train_fc2_bias", &Workload::train_fc2_bias},
                                {"is_postscore", &Workload::is_postscore},
                                {"gate_noise", &Workload::gate_noise},
                                {"gate_loss", &Workload::gate_loss},
                                {"global_loss_scope", &Workload::global_loss_scope},
                                {"agree_on_tokens", &Workload::agree_on_tokens},
                                {"regather_weights", &Workload::regather_weights}};

}  // namespace

void write_layer_fields(const Workload& workload, nlohmann::ordered_json& json) {
  const Workload usual;
  for (const SizeField& field : kSizes) json[field.key] = workload.*field.of;
  json["dtype"] = name(workload.dtype);
  if (workload.ffn != usual.ffn) json["ffn"] = name(workload.ffn);
  if (workload.gate != usual.gate) json["gate"] = name(workload.gate);
  if (workload.projection_dim != usual.projection_dim) json["projection_dim"] = workload.projection_dim;
  for (const FlagField& field : kFlags) {
    if (workload.*field.of != usual.*field.of) json[field.key] = workload.*field.of;
  }
}

void read_layer_fields(JsonObject& json, Workload& workload) {
  const JsonRange size = JsonRange::at_least(0);
  for (const SizeField& field : kSizes) workload.*field.of = json.required<std::int64_t>(field.key, size);
  workload.dtype = *parse_dtype(json.one_of("dtype", {"fp64", "fp32", "fp16", "bf16"}));
  if (const auto ffn = json.optional_one_of("ffn", {"standard", "gated"})) {
    workload.ffn = *parse_ffn_kind(*ffn);
  }
  if (const auto gate = json.optional_one_of("gate", {"linear", "cosine"})) {
    workload.gate = *gate == name(GateKind::kLinear) ? GateKind::kLinear : GateKind::kCosine;
  }
  workload.projection_dim =
      json.optional<std::int64_t>("projection_dim", size).value_or(workload.projection_dim);
  for (const FlagField& field : kFlags) {
    workload.*field.of = json.optional<bool>(field.key).value_or(workload.*field.of);
  }
}

}  // namespace flex
