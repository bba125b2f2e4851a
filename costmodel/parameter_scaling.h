#pragma once

#include <cstddef>
#include <span>

#include "costmodel/cost_parameters.h"

namespace flex {

/// How many numbers of `parameters` a factor can be put on: those of a calibration's file, then fixed_us and
/// time_factor of each kind that has its own. Errors are none of them.
[[nodiscard]] std::size_t num_scalable(const CostParameters& parameters);

/// `parameters`, each number times its factor and kept in the range that the file's format allows. What is
/// infinite (no contention) stays so. `factors`: num_scalable() of them, above 0.
/// @throws InputError for another number of factors.
[[nodiscard]] CostParameters scaled(const CostParameters& parameters, std::span<const double> factors);

}  // namespace flex
