#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

#include "kernels/cuda_check.h"
#include "kernels/gemm_scratch.h"

namespace flex {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMaxBlocks = 4096;

// The finalizer of SplitMix64: a bijection of 64 bits with every output bit depending on every input bit.
__device__ std::uint64_t mix(std::uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
  return value ^ (value >> 31);
}

template <class T>
__global__ void fill_uniform_kernel(T* data, std::int64_t count, std::uint64_t seed) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += step) {
    const auto bits = static_cast<std::uint32_t>(mix(seed + static_cast<std::uint64_t>(i)) >> 40);  // 24 bits
    data[i] = static_cast<T>(static_cast<float>(bits) * 0x1p-23F - 1.0F);
  }
}

template <class T>
void fill(void* data, std::int64_t count, std::uint64_t seed, void* cuda_stream) {
  const std::int64_t blocks = std::min(kMaxBlocks, (count + kThreads - 1) / kThreads);
  if (blocks == 0) return;
  fill_uniform_kernel<T>
      <<<static_cast<unsigned>(blocks), kThreads, 0, static_cast<cudaStream_t>(cuda_stream)>>>(
          static_cast<T*>(data), count, seed);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

void fill_uniform_cuda(void* data, DType dtype, std::int64_t count, std::uint64_t seed, void* cuda_stream) {
  switch (dtype) {
    case DType::kF32:
      return fill<float>(data, count, seed, cuda_stream);
    case DType::kF16:
      return fill<__half>(data, count, seed, cuda_stream);
    case DType::kBF16:
      return fill<__nv_bfloat16>(data, count, seed, cuda_stream);
    default:
      throw InputError("fill_uniform_cuda: fp32, fp16 or bf16 expected");
  }
}

}  // namespace flex
