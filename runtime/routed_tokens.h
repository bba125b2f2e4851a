#pragma once

#include <cstdint>
#include <span>

#include "base/philox.h"
#include "kernels/tensor.h"

namespace flex {

/// Tokens (T, M) in host memory that a linear gate sends where they are to go: each is a sum of its experts'
/// gate rows, the first the largest, and a little noise. The narrower the model, the more other rows may have
/// in common with that sum: below some 100 columns an order of choices may come out another.
/// @param choices (T, k) different experts of each token, the first choice first.
/// @param gate_weight (E, M), on any device.
[[nodiscard]] Tensor routed_tokens(std::span<const std::int64_t> choices, std::int64_t top_k,
                                   ConstTensorView gate_weight, DType dtype, PhiloxStream& noise);

}  // namespace flex
