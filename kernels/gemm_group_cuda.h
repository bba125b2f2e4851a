#pragma once

#include <cublas_v2.h>

#include <span>
#include <vector>

#include "kernels/gemm_product_cuda.h"

namespace flex {

/// cuBLAS's grouped product: many products of different row counts in one call. Private to GemmAlgorithms.
class GemmGroup {
 public:
  explicit GemmGroup(Device device) : device_(device) {}
  ~GemmGroup();
  GemmGroup(const GemmGroup&) = delete;
  GemmGroup& operator=(const GemmGroup&) = delete;

  /// Queues the products, none of which is empty. False if the library does not compute them grouped.
  [[nodiscard]] bool run(std::span<const GemmCall> calls, bool allow_tf32, const GemmWorkspace& workspace,
                         cudaStream_t stream);

 private:
  void collect(std::span<const GemmCall> calls);
  void upload(cudaStream_t stream);

  Device device_;
  cublasHandle_t handle_ = nullptr;  // made by the first call
  // One group per product, in the library's column-major words: its A is our B.
  std::vector<cublasOperation_t> transpose_left_, transpose_right_;
  std::vector<int> rows_, columns_, inner_, left_leading_, right_leading_, result_leading_, group_sizes_;
  std::vector<float> alphas_, betas_;
  std::vector<const void*> addresses_;  // of all left, then all right operands, then all results
  Tensor device_addresses_;             // the same on the device, bytes
};

}  // namespace flex
