#include "kernels/cuda_launch.cuh"
#include "kernels/moe/token_products.cuh"

namespace flex {
namespace {

// Lanes of 32 neighbours have every eighth partial each; eight sums follow in their order.
constexpr int kPartialLanes = 8;

__global__ void __launch_bounds__(kWarpSize* kPartialLanes)
    sum_partials_kernel(const float* partials, std::int64_t num_partials, StridedMatrix<float> out,
                        bool accumulate) {
  __shared__ float shares[kPartialLanes][kWarpSize];
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kWarpSize + threadIdx.x;
  const std::int64_t count = out.rows * out.cols;
  float share = 0.0F;
  if (i < count) {
#pragma unroll 8
    for (std::int64_t partial = threadIdx.y; partial < num_partials; partial += kPartialLanes) {
      share += partials[partial * count + i];
    }
  }
  shares[threadIdx.y][threadIdx.x] = share;
  __syncthreads();
  if (threadIdx.y != 0 || i >= count) return;
  float sum = 0.0F;
#pragma unroll
  for (int lane = 0; lane < kPartialLanes; ++lane) sum += shares[lane][threadIdx.x];
  const std::int64_t row = i / out.cols;
  float* total = out.data + row * out.row_stride + (i - row * out.cols) * out.col_stride;
  *total = accumulate ? *total + sum : sum;
}

}  // namespace

void sum_partials_cuda(const float* partials, std::int64_t num_partials, const StridedMatrix<float>& out,
                       Stream& stream, bool accumulate) {
  cudaStream_t native = launch_stream(stream);
  if (out.rows * out.cols == 0) return;
  const unsigned blocks = grid_size(ceil_div<std::int64_t>(out.rows * out.cols, kWarpSize));
  sum_partials_kernel<<<blocks, dim3(kWarpSize, kPartialLanes), 0, native>>>(partials, num_partials, out,
                                                                             accumulate);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace flex
