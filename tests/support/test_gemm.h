#pragma once

#include "kernels/gemm_algorithms.h"

namespace flex::testing {

/// What kernels of `device` take as their GemmAlgorithms: one without TF32 for all tests of a program on
/// cuda:0, null on the CPU. It is never destroyed: the driver may be gone when static objects are.
[[nodiscard]] inline GemmAlgorithms* test_gemm(Device device) {
  if (device.is_cpu()) return nullptr;
  static auto* gemm = new GemmAlgorithms(Device::cuda(0));
  return gemm;
}

}  // namespace flex::testing
