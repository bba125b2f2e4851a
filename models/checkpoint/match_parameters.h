#pragma once

#include <vector>

#include "models/checkpoint/load_parameters.h"

namespace flex {

/// A parameter, and the tensor of a file that it is to hold; null: it stays as it is.
struct MatchedParameter {
  const ModelParameter* parameter = nullptr;
  const StoredTensor* stored = nullptr;
};

/// Compares a file with a model. Shapes may differ in extents of 1, which versions of Tutel write or leave
/// out. @throws InputError in one line of all that does not fit.
[[nodiscard]] std::vector<MatchedParameter> match_parameters(const ParameterFiles& files,
                                                             const ModelConfig& config,
                                                             const ModelParameters& parameters,
                                                             const LoadOptions& options);

}  // namespace flex
