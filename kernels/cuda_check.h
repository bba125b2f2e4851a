#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "base/error.h"

namespace flex {

/// Throws DeviceError with the call, the place and CUDA's reason. Free of fmt, so that .cu files can use it.
inline void check_cuda(cudaError_t status, const char* call, const char* file, int line) {
  if (status == cudaSuccess) return;
  throw DeviceError(std::string(call) + " at " + file + ":" + std::to_string(line) + ": " +
                    cudaGetErrorName(status) + ", " + cudaGetErrorString(status));
}

}  // namespace flex

/// Checks one CUDA runtime call.
#define FLEX_CUDA_CHECK(call) ::flex::check_cuda((call), #call, __FILE__, __LINE__)
