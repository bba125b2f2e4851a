#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "runtime/validation.h"

namespace flex::cli {

/// For people: a row for each shape and pass, a row for each kind of operation, and the figures of all
/// together.
[[nodiscard]] std::string validation_table(const ValidationRun& run);
/// For programs: the same, and every pass.
[[nodiscard]] nlohmann::ordered_json validation_json(const ValidationRun& run);

/// A row for each run, with the limits that are asked of a GPU.
[[nodiscard]] std::string validation_summary(const std::vector<ValidationRun>& runs);

}  // namespace flex::cli
