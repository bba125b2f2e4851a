#pragma once

#include <nlohmann/json_fwd.hpp>

#include "base/json_object.h"
#include "costmodel/workload.h"

/// What is the same in every pass of a layer, as fields of a JSON object: top_k, model_dim, hidden_dim, dtype
/// and, where they differ from a Workload's defaults, the kinds of experts and gate and the flags. Ranks,
/// experts, tokens, capacity, pass and dropless are the caller's.
namespace flex {

void write_layer_fields(const Workload& workload, nlohmann::ordered_json& json);

/// Fields that are left out keep their value. Checks types, names and signs; validate(Workload) the rest.
/// @throws InputError naming the field.
void read_layer_fields(JsonObject& json, Workload& workload);

}  // namespace flex
