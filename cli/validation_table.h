#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "runtime/validation.h"

namespace flex::cli {

/// For people: a row for each shape and pass, a row for each kind of operation, and the figures of all
/// together.
[[nodiscard]] std::string validation_table(const ValidationReport& report);
/// For programs: the same, and every pass.
[[nodiscard]] nlohmann::ordered_json validation_json(const ValidationReport& report);

}  // namespace flex::cli
