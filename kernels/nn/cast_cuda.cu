#include "kernels/cuda_launch.cuh"
#include "kernels/nn/cast.h"

namespace flex {
namespace {

constexpr int kThreads = 256;

template <class To, class From>
__global__ void __launch_bounds__(kThreads) cast_kernel(const From* from, To* to, std::int64_t count) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count) to[i] = from_float<To>(to_float(from[i]));
}

}  // namespace

void cast_cuda(const CastArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  const std::int64_t count = args.from.num_elements();
  if (count == 0) return;
  const unsigned blocks = grid_size(ceil_div<std::int64_t>(count, kThreads));
  dispatch_dtype(args.to.dtype, [&]<class To>() {
    dispatch_dtype(args.from.dtype, [&]<class From>() {
      cast_kernel<<<blocks, kThreads, 0, native>>>(args.from.as<From>(), args.to.as<To>(), count);
      FLEX_CUDA_CHECK(cudaGetLastError());
    });
  });
}

}  // namespace flex
