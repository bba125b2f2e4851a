#pragma once

#include <vector>

#include "tests/support/reference_layer_view.h"

/// One expert of the reference layer on one token.
namespace flex::testing {

/// Output (M) of `expert` for the input row (M).
[[nodiscard]] std::vector<double> expert_forward(const ReferenceLayerView& layer, std::int64_t expert,
                                                 const std::vector<double>& input);

/// Gradient (M) by the input row; adds the gradients by the expert's parameters to `gradients`.
[[nodiscard]] std::vector<double> expert_backward(const ReferenceLayerView& layer, std::int64_t expert,
                                                  const std::vector<double>& input,
                                                  const std::vector<double>& doutput,
                                                  ReferenceParameters& gradients);

}  // namespace flex::testing
