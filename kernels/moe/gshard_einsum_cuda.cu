#include "kernels/cuda_launch.cuh"
#include "kernels/gemm_algorithms.h"
#include "kernels/moe/gshard_einsum.h"

namespace flex {
namespace {

constexpr int kThreads = 256;

// A block for each token: zeros first, then its choices.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    mask_kernel(const std::int32_t* indices, const std::int32_t* locations, const float* gates, T* mask,
                std::int64_t row, std::int64_t top_k, std::int64_t capacity) {
  using Access = Pack<T, kWidth>;
  const std::int64_t token = blockIdx.x;
  T* slots = mask + token * row;
  for (std::int64_t i = threadIdx.x; i < row / kWidth; i += kThreads)
    Access::store(slots + i * kWidth, Access::zero());
  __syncthreads();
  for (std::int64_t place = token * top_k + threadIdx.x; place < (token + 1) * top_k; place += kThreads) {
    if (locations[place] >= capacity) continue;
    slots[indices[place] * capacity + locations[place]] =
        from_float<T>(gates == nullptr ? 1.0F : gates[place]);
  }
}

// A thread for each choice.
template <class T>
__global__ void __launch_bounds__(kThreads)
    mask_backward_kernel(const T* dmask, const std::int32_t* indices, const std::int32_t* locations,
                         float* dgates, std::int64_t choices, std::int64_t top_k, std::int64_t experts,
                         std::int64_t capacity) {
  const std::int64_t place = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (place >= choices) return;
  const std::int64_t location = locations[place];
  const std::int64_t expert_row = place / top_k * experts + indices[place];
  dgates[place] = location < capacity ? to_float(dmask[expert_row * capacity + location]) : 0.0F;
}

}  // namespace

void gshard_mask_cuda(const GshardMaskArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  const std::int64_t tokens = args.mask.size(0);
  const std::int64_t row = args.mask.size(1) * args.mask.size(2);
  if (tokens == 0 || row == 0) return;
  const float* gates = args.gates.present() ? args.gates.as<float>() : nullptr;
  const bool aligned =
      row * size_bytes(args.mask.dtype) % kVectorBytes == 0 && aligned_to({args.mask.data}, kVectorBytes);
  dispatch_dtype(args.mask.dtype, [&]<class T>() {
    auto* kernel = aligned ? mask_kernel<T, kVectorWidth<T>> : mask_kernel<T, 1>;
    kernel<<<grid_size(tokens), kThreads, 0, native>>>(
        args.indices.as<std::int32_t>(), args.locations.as<std::int32_t>(), gates, args.mask.as<T>(), row,
        args.indices.size(1), args.capacity);
    FLEX_CUDA_CHECK(cudaGetLastError());
  });
}

void gshard_mask_backward_cuda(const GshardMaskBackwardArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  const std::int64_t choices = args.indices.num_elements();
  if (choices == 0) return;
  dispatch_dtype(args.dmask.dtype, [&]<class T>() {
    mask_backward_kernel<T><<<grid_size(ceil_div<std::int64_t>(choices, kThreads)), kThreads, 0, native>>>(
        args.dmask.as<T>(), args.indices.as<std::int32_t>(), args.locations.as<std::int32_t>(),
        args.dgates.as<float>(), choices, args.indices.size(1), args.dmask.size(1), args.dmask.size(2));
    FLEX_CUDA_CHECK(cudaGetLastError());
  });
}

void gshard_encode_cuda(const GshardEncodeArgs& args, Stream& stream) {
  args.gemm->run({.shape = {.dtype = args.x.dtype,
                            .transpose_a = true,
                            .m = args.buffer.size(0),
                            .n = args.x.size(1),
                            .k = args.x.size(0)},
                  .a = args.mask.data,
                  .b = args.x.data,
                  .d = args.buffer.data},
                 stream);
}

void gshard_decode_cuda(const GshardDecodeArgs& args, Stream& stream) {
  args.gemm->run(
      {.shape = {.dtype = args.y.dtype, .m = args.y.size(0), .n = args.y.size(1), .k = args.buffer.size(0)},
       .a = args.mask.data,
       .b = args.buffer.data,
       .d = args.y.data},
      stream);
}

void gshard_decode_backward_mask_cuda(const GshardDecodeBackwardMaskArgs& args, Stream& stream) {
  args.gemm->run({.shape = {.dtype = args.dy.dtype,
                            .transpose_b = true,
                            .m = args.dy.size(0),
                            .n = args.buffer.size(0),
                            .k = args.dy.size(1)},
                  .a = args.dy.data,
                  .b = args.buffer.data,
                  .d = args.dmask.data},
                 stream);
}

}  // namespace flex
