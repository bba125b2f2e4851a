#pragma once

#include <vector>

#include "tests/support/reference_layer.h"

/// Routing of one source rank in the reference layer.
namespace flex::testing {

/// Fills indices and gates from the scores.
void choose_experts(const ReferenceConfig& config, std::int64_t top_k, ReferenceRank& rank);

/// Fills locations and expert_counts from the scores and indices.
void locate_choices(const ReferenceConfig& config, std::int64_t top_k, ReferenceRank& rank);

/// Gradient (T, E) by the noisy logits, given that by the gates (T, k); every choice takes part in the
/// normalization.
[[nodiscard]] std::vector<double> gates_backward(const ReferenceConfig& config, std::int64_t top_k,
                                                 const ReferenceRank& rank,
                                                 const std::vector<double>& dgates);

}  // namespace flex::testing
