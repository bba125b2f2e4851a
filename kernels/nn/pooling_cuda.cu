#include "kernels/cuda_launch.cuh"
#include "kernels/nn/pooling.h"

namespace flex {
namespace {

constexpr int kThreads = 128;

// One access to the channels of an image a thread.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    mean_pool_kernel(const T* x, T* y, std::int64_t count, std::int64_t channels, std::int64_t positions) {
  using Vector = Pack<T, kWidth>;
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kWidth;
  if (i >= count) return;
  const std::int64_t image = i / channels;
  const T* from = x + image * positions * channels + (i - image * channels);
  float sums[kWidth] = {};
#pragma unroll 4
  for (std::int64_t at = 0; at < positions; ++at) {
    float values[kWidth];
    Vector::unpack(Vector::load(from + at * channels), values);
#pragma unroll
    for (int v = 0; v < kWidth; ++v) sums[v] += values[v];
  }
#pragma unroll
  for (int v = 0; v < kWidth; ++v) sums[v] /= static_cast<float>(positions);
  Vector::store(y + i, Vector::pack(sums));
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    mean_pool_backward_kernel(const T* dy, T* dx, std::int64_t count, std::int64_t channels,
                              std::int64_t positions) {
  using Vector = Pack<T, kWidth>;
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kWidth;
  if (i >= count) return;
  const std::int64_t row = i / channels;
  float values[kWidth];
  Vector::unpack(Vector::load(dy + row / positions * channels + (i - row * channels)), values);
#pragma unroll
  for (int v = 0; v < kWidth; ++v) values[v] /= static_cast<float>(positions);
  Vector::store(dx + i, Vector::pack(values));
}

bool has_vectors(const ConstTensorView& a, const ConstTensorView& b) {
  return a.size(1) * size_bytes(a.dtype) % kVectorBytes == 0 && aligned_to({a.data, b.data}, kVectorBytes);
}

}  // namespace

void mean_pool_cuda(const MeanPoolArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  const std::int64_t count = args.y.num_elements();
  if (count == 0) return;
  const std::int64_t positions = args.x.size(0) / args.y.size(0);
  const bool vectors = has_vectors(args.x, args.y);
  dispatch_dtype(args.x.dtype, [&]<class T>() {
    const std::int64_t width = vectors ? kVectorWidth<T> : 1;
    auto* kernel = vectors ? mean_pool_kernel<T, kVectorWidth<T>> : mean_pool_kernel<T, 1>;
    kernel<<<grid_size(ceil_div<std::int64_t>(count / width, kThreads)), kThreads, 0, native>>>(
        args.x.as<T>(), args.y.as<T>(), count, args.x.size(1), positions);
    FLEX_CUDA_CHECK(cudaGetLastError());
  });
}

void mean_pool_backward_cuda(const MeanPoolBackwardArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  const std::int64_t count = args.dx.num_elements();
  if (count == 0) return;
  const std::int64_t positions = args.dx.size(0) / args.dy.size(0);
  const bool vectors = has_vectors(args.dx, args.dy);
  dispatch_dtype(args.dx.dtype, [&]<class T>() {
    const std::int64_t width = vectors ? kVectorWidth<T> : 1;
    auto* kernel = vectors ? mean_pool_backward_kernel<T, kVectorWidth<T>> : mean_pool_backward_kernel<T, 1>;
    kernel<<<grid_size(ceil_div<std::int64_t>(count / width, kThreads)), kThreads, 0, native>>>(
        args.dy.as<T>(), args.dx.as<T>(), count, args.dx.size(1), positions);
    FLEX_CUDA_CHECK(cudaGetLastError());
  });
}

}  // namespace flex
