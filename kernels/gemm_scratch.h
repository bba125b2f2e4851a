#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace flex {

/// Fills device memory with values uniform in [-1, 1), equal for equal seeds: operands of a timed product,
/// whose power draw, and with it the clock, depends on their values. fp32, fp16, bf16.
void fill_uniform_cuda(void* data, DType dtype, std::int64_t count, std::uint64_t seed, void* cuda_stream);

}  // namespace flex
