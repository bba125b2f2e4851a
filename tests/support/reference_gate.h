#pragma once

#include <vector>

#include "tests/support/reference_layer_view.h"

/// Gate and gate losses of the reference layer.
namespace flex::testing {

/// Clean logits (T, E) of the tokens x (T, M).
[[nodiscard]] std::vector<double> gate_logits(const ReferenceLayerView& layer, const std::vector<double>& x);

/// Adds the gradients by the gate's parameters to `gradients` and by x to `dx`, given dlogits (T, E).
void gate_backward(const ReferenceLayerView& layer, const std::vector<double>& x,
                   const std::vector<double>& dlogits, ReferenceParameters& gradients,
                   std::vector<double>& dx);

/// Softmax of each row of `num_experts` logits.
[[nodiscard]] std::vector<double> softmax_rows(const std::vector<double>& logits, std::int64_t num_experts);

/// Adds the gradient by the logits to `dlogits`, given softmax's result and the gradient by it.
void softmax_backward_rows(const std::vector<double>& scores, const std::vector<double>& dscores,
                           std::int64_t num_experts, std::vector<double>& dlogits);

}  // namespace flex::testing
