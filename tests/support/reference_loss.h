#pragma once

#include <span>
#include <vector>

#include "tests/support/reference_layer.h"

/// Auxiliary losses of the reference layer. A scope is the ranks over which the sums are taken: all, or one.
namespace flex::testing {

/// l_aux with the z-loss; 0 when the scope has no tokens.
[[nodiscard]] double auxiliary_loss(const ReferenceConfig& config, std::int64_t top_k,
                                    std::span<const ReferenceRank> scope);

/// Adds weight * (gradient of auxiliary_loss by the logits) to `dlogits`, (T, E) for every rank of the scope.
void auxiliary_loss_backward(const ReferenceConfig& config, std::int64_t top_k,
                             std::span<const ReferenceRank> scope, double weight,
                             std::span<std::vector<double>> dlogits);

}  // namespace flex::testing
