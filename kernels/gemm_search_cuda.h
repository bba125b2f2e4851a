#pragma once

#include <cublasLt.h>

#include <optional>

#include "kernels/gemm_product_cuda.h"

namespace flex {

/// What a timed search ends with.
struct GemmSearchResult {
  cublasLtMatmulAlgo_t algorithm;
  double median_us;        ///< of `algorithm`
  double first_median_us;  ///< of the library's first suggestion, in the same rounds
  int num_timed;
};

/// Times the library's suggestions for `call` on `device`: operands of its size with random values, the L2
/// flushed before each run, medians of CUDA events. Nothing if the library has no algorithm. Waits for all
/// work of the device, so that the times are the product's own, and blocks the host. Shares no memory with
/// other products: its workspace of `workspace_bytes` lives as long as the search.
[[nodiscard]] std::optional<GemmSearchResult> search_gemm_blocking(Device device, cublasLtHandle_t handle,
                                                                   const GemmProduct& product,
                                                                   std::int64_t workspace_bytes,
                                                                   int num_candidates);

}  // namespace flex
