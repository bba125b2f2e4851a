#pragma once

#include <cstdint>

#include "kernels/check.h"

/// Drop path's factors, one for all rows of a sample. Private to layer_norm and residual.
namespace flex {

/// Rows of a sample; 1 where there are no factors.
[[nodiscard]] inline std::int64_t rows_per_sample(std::int64_t rows, const ConstTensorView& factors) {
  return factors.num_elements() == 0 ? 1 : rows / factors.num_elements();
}

/// @throws InputError unless `factors` is a vector of the gate's type whose length divides the rows.
inline void require_factors(const ArgumentCheck& check, const ConstTensorView& factors, std::int64_t rows,
                            DType dtype) {
  check.tensor("factors", factors, gate_dtype(dtype), {factors.size(0)});
  const std::int64_t samples = factors.size(0);
  require(samples == 0 ? rows == 0 : rows % samples == 0, "{}: {} factors do not divide {} rows",
          check.kernel(), samples, rows);
}

}  // namespace flex
