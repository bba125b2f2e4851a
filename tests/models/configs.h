#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "base/json.h"
#include "base/json_object.h"
#include "models/model_config.h"

namespace flex::testing {

/// The model of a JSON text, of which nothing may be left over.
[[nodiscard]] inline ModelConfig model_of(const std::string& text) {
  JsonObject json(parse_json(text, "model.json"), "model.json");
  ModelConfig config = read_model_config(json);
  json.finish();
  return config;
}

}  // namespace flex::testing
