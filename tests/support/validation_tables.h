#pragma once

#include <string>

namespace flex::testing {

/// What docs/validation.md compares, as markdown: parameters, figures and residuals. Takes a fraction of a
/// second.
[[nodiscard]] std::string validation_tables();

/// For each parameter the range in which, the others as they are, all acceptance lines hold. Takes a minute.
[[nodiscard]] std::string parameter_range_table();

}  // namespace flex::testing
