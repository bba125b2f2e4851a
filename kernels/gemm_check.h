#pragma once

#include "kernels/check.h"
#include "kernels/gemm_algorithms.h"

namespace flex {

/// @throws InputError for a CUDA device without a GemmAlgorithms of that device.
inline void require_gemm(const ArgumentCheck& check, const GemmAlgorithms* gemm, Device device) {
  if (device.is_cpu()) return;
  require(gemm != nullptr, "{}: gemm is missing; on CUDA it chooses the matrix products' algorithms",
          check.kernel());
  require(gemm->device() == device, "{}: gemm is of {}, the stream runs on {}", check.kernel(),
          to_string(gemm->device()), to_string(device));
}

}  // namespace flex
