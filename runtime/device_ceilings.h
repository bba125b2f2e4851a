#pragma once

#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/gemm_algorithms.h"
#include "kernels/stream.h"

/// What a CUDA device reaches at best, measured where a share of it is reported.
namespace flex {

/// Both ceilings of one device.
struct DeviceCeilings {
  double copy_GBps = 0;
  double matrix_TFLOPs = 0;
};

/// Bytes read plus written per second by a large copy on the device, in GB/s. Blocking.
[[nodiscard]] double measure_copy_GBps(Stream& stream);

/// Rate of a large matrix product (8192^3) of random values, in TFLOP/s. Blocking.
[[nodiscard]] double measure_matrix_TFLOPs(DType dtype, GemmAlgorithms& gemm, Stream& stream);

/// Blocking.
[[nodiscard]] DeviceCeilings measure_ceilings(DType dtype, GemmAlgorithms& gemm, Stream& stream);

/// The two batched products of the experts alone, without bias or activation, on (experts, rows, M) random
/// values: the floor of any layer of these sizes. Median in microseconds. Blocking.
[[nodiscard]] double measure_expert_products_us(DType dtype, std::int64_t experts, std::int64_t rows,
                                                std::int64_t model_dim, std::int64_t hidden_dim,
                                                GemmAlgorithms& gemm, Stream& stream);

}  // namespace flex
