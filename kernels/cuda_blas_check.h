#pragma once

#include <cublasLt.h>

#include <string>

#include "base/error.h"

namespace flex {

/// Throws DeviceError with the call, what it was for, the place and cuBLAS's reason.
[[noreturn]] inline void throw_cublas(cublasStatus_t status, const char* call, const std::string& what,
                                      const char* file, int line) {
  throw DeviceError(std::string(call) + " for " + what + " at " + file + ":" + std::to_string(line) + ": " +
                    cublasLtGetStatusName(status) + ", " + cublasLtGetStatusString(status));
}

}  // namespace flex

/// Checks one cuBLAS call; `what` is only formed after a failure.
#define FLEX_CUBLAS_CHECK(call, what)                                       \
  do {                                                                      \
    const cublasStatus_t flex_status = (call);                              \
    if (flex_status != CUBLAS_STATUS_SUCCESS) [[unlikely]]                  \
      ::flex::throw_cublas(flex_status, #call, (what), __FILE__, __LINE__); \
  } while (false)
