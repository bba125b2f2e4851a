#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace flex {

/// Writes element `index` of contiguous host memory, rounded to the view's floating type (to nearest even).
/// For filling tensors; not for kernels. @throws InputError for other types.
void set_host_element(const TensorView& view, std::int64_t index, double value);

/// Reads element `index` of contiguous host memory of a floating type. @throws InputError for other types.
[[nodiscard]] double host_element(const ConstTensorView& view, std::int64_t index);

}  // namespace flex
