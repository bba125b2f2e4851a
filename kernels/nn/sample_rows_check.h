#pragma once

#include <cstdint>

#include "kernels/check.h"

namespace flex {

/// @throws InputError unless `factors` is a vector of the gate's type whose length divides the rows.
inline void require_factors(const ArgumentCheck& check, const ConstTensorView& factors, std::int64_t rows,
                            DType dtype) {
  check.tensor("factors", factors, gate_dtype(dtype), {factors.size(0)});
  const std::int64_t samples = factors.size(0);
  require(samples == 0 ? rows == 0 : rows % samples == 0, "{}: {} factors do not divide {} rows",
          check.kernel(), samples, rows);
}

}  // namespace flex
