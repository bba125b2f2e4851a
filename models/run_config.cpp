#include "models/run_config.h"

#include <nlohmann/json.hpp>
#include <string>

#include "base/json_object.h"

namespace flex {

RunConfig read_run_config(JsonObject json, const std::filesystem::path& directory) {
  RunConfig config;
  const auto read_count = [&](std::int64_t& field, std::string_view key, double least) {
    field = json.optional<std::int64_t>(key, JsonRange::at_least(least)).value_or(field);
  };
  read_count(config.log_every, "log_every", 1);
  read_count(config.evaluate_every, "evaluate_every", 0);
  read_count(config.checkpoint_every, "checkpoint_every", 0);
  read_count(config.keep_checkpoints, "keep_checkpoints", 0);
  read_count(config.drift_check_every, "drift_check_every", 0);
  if (const auto path = json.optional<std::string>("init")) config.init = directory / *path;
  json.finish();
  return config;
}

nlohmann::ordered_json to_json(const RunConfig& config) {
  nlohmann::ordered_json json = {{"log_every", config.log_every},
                                 {"evaluate_every", config.evaluate_every},
                                 {"checkpoint_every", config.checkpoint_every},
                                 {"keep_checkpoints", config.keep_checkpoints},
                                 {"drift_check_every", config.drift_check_every}};
  if (!config.init.empty()) json["init"] = std::filesystem::absolute(config.init).lexically_normal().string();
  return json;
}

}  // namespace flex
