#pragma once

#include <nlohmann/json_fwd.hpp>

#include "base/json_object.h"
#include "tuner/trial.h"

/// Keys of the cache as JSON: field names as in the structs, enumerations by name.
namespace flex {

/// {"environment": {...}, "layer": {...}, "case": {...}}
[[nodiscard]] nlohmann::ordered_json to_json(const TuningKey& key);
/// @throws InputError for missing and unknown keys, and values that cannot be.
[[nodiscard]] TuningKey parse_key(JsonObject& object);

[[nodiscard]] nlohmann::ordered_json to_json(const Decision& decision);

/// `2026-11-24T09:30:00.000000001Z`.
[[nodiscard]] std::string timestamp_text(std::int64_t since_1970_ns);
/// The inverse; the fraction may be left out. Nothing for other text.
[[nodiscard]] std::optional<std::int64_t> parse_timestamp(std::string_view text);

}  // namespace flex
