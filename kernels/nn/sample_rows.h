#pragma once

#include <cstdint>

#include "kernels/tensor.h"

/// Drop path's factors, one for all rows of a sample. Private to layer_norm and residual.
namespace flex {

/// Rows of a sample; 1 where there are no factors.
[[nodiscard]] inline std::int64_t rows_per_sample(std::int64_t rows, const ConstTensorView& factors) {
  return factors.num_elements() == 0 ? 1 : rows / factors.num_elements();
}

}  // namespace flex
