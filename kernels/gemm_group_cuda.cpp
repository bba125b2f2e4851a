#include "kernels/gemm_group_cuda.h"

#include <cuda_runtime_api.h>

#include "kernels/cuda_blas_check.h"
#include "kernels/cuda_check.h"

namespace flex {
namespace {

std::string describe(std::span<const GemmCall> calls) {
  return std::to_string(calls.size()) + " grouped products, the first " + to_string(calls.front().shape);
}

constexpr std::int64_t kAddressBytes = sizeof(void*);

}  // namespace

GemmGroup::~GemmGroup() {
  if (handle_ != nullptr) static_cast<void>(cublasDestroy(handle_));  // all that can fail is a lost context
}

bool GemmGroup::run(std::span<const GemmCall> calls, bool allow_tf32, const GemmWorkspace& workspace,
                    cudaStream_t stream) {
  if (handle_ == nullptr) FLEX_CUBLAS_CHECK(cublasCreate(&handle_), describe(calls));
  collect(calls);
  upload(stream);
  FLEX_CUBLAS_CHECK(cublasSetStream(handle_, stream), describe(calls));
  FLEX_CUBLAS_CHECK(cublasSetWorkspace(handle_, workspace.data, static_cast<std::size_t>(workspace.bytes)),
                    describe(calls));
  const DType dtype = calls.front().shape.dtype;
  const cudaDataType_t type = cuda_type(dtype);
  const auto num = calls.size();
  const auto* addresses = device_addresses_.as<void*>();  // of operands too, which are only read
  const bool tf32 = allow_tf32 && dtype == DType::kF32;
  const cublasStatus_t status = cublasGemmGroupedBatchedEx(
      handle_, transpose_left_.data(), transpose_right_.data(), rows_.data(), columns_.data(), inner_.data(),
      alphas_.data(), addresses, type, left_leading_.data(), addresses + num, type, right_leading_.data(),
      betas_.data(), const_cast<void* const*>(addresses + 2 * num), type, result_leading_.data(),
      static_cast<int>(num), group_sizes_.data(), tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return false;
  FLEX_CUBLAS_CHECK(status, describe(calls));
  return true;
}

void GemmGroup::collect(std::span<const GemmCall> calls) {
  const auto num = calls.size();
  for (auto* values : {&rows_, &columns_, &inner_, &left_leading_, &right_leading_, &result_leading_})
    values->clear();
  transpose_left_.clear();
  transpose_right_.clear();
  betas_.clear();
  alphas_.assign(num, 1.0F);
  group_sizes_.assign(num, 1);
  addresses_.resize(3 * num);
  for (std::size_t i = 0; i < num; ++i) {
    const GemmCall& call = calls[i];
    const GemmShape shape = with_leading_dimensions(call.shape);
    transpose_left_.push_back(shape.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    transpose_right_.push_back(shape.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    rows_.push_back(static_cast<int>(shape.n));
    columns_.push_back(static_cast<int>(shape.m));
    inner_.push_back(static_cast<int>(shape.k));
    left_leading_.push_back(static_cast<int>(shape.ldb));
    right_leading_.push_back(static_cast<int>(shape.lda));
    result_leading_.push_back(static_cast<int>(shape.ldd));
    betas_.push_back(shape.accumulate ? 1.0F : 0.0F);
    addresses_[i] = call.b;
    addresses_[num + i] = call.a;
    addresses_[2 * num + i] = call.d;
  }
}

void GemmGroup::upload(cudaStream_t stream) {
  const auto bytes = static_cast<std::int64_t>(addresses_.size()) * kAddressBytes;
  if (device_addresses_.bytes() < bytes) {
    // The old addresses may still be read by queued products.
    FLEX_CUDA_CHECK(cudaStreamSynchronize(stream));
    device_addresses_ = Tensor(DType::kU8, {2 * bytes}, device_);
  }
  // From pageable memory: the copy is staged before the call returns, so that addresses_ may change at once.
  FLEX_CUDA_CHECK(cudaMemcpyAsync(device_addresses_.view().data, addresses_.data(),
                                  static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice, stream));
}

}  // namespace flex
