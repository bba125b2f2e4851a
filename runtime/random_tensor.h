#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace flex {

/// A tensor of N(0, 1) values, the same for equal seeds and streams on every device and machine, whatever the
/// number of threads that make them. Blocking.
[[nodiscard]] Tensor random_normal_tensor(DType dtype, Shape shape, Device device, std::uint64_t seed,
                                          std::uint64_t stream);

}  // namespace flex
