#include "kernels/nn/block_sum.cuh"
#include "kernels/nn/chunk_vector.cuh"
#include "kernels/nn/gradient_norm.h"

namespace flex {
namespace {

constexpr int kThreads = 256;

// One chunk a block.
__global__ void __launch_bounds__(kThreads)
    chunk_squares_kernel(const TrainedTensorEntry* tensors, const TrainedTensorChunk* chunks,
                         double* squares) {
  __shared__ double shared[kThreads / kWarpSize];
  const TrainedTensorChunk chunk = chunks[blockIdx.x];
  const TrainedTensorEntry tensor = tensors[chunk.tensor];
  const int size = chunk_size(tensor, chunk);
  const bool aligned = is_vector_aligned(tensor.gradient);
  double sum = 0.0;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x) * kFour; i < size; i += kThreads * kFour) {
    float values[kFour];
    const int count = min(kFour, size - i);
    load_gradient(tensor, chunk.index * TrainedTensors::kChunk + i, count, aligned && count == kFour, values);
#pragma unroll
    for (int v = 0; v < kFour; ++v) sum += static_cast<double>(values[v]) * static_cast<double>(values[v]);
  }
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) squares[blockIdx.x] = sum;
}

// One group a block.
__global__ void __launch_bounds__(kThreads)
    group_squares_kernel(const double* squares, const std::int64_t* limits, double* sums) {
  __shared__ double shared[kThreads / kWarpSize];
  double sum = 0.0;
  for (std::int64_t i = limits[blockIdx.x] + threadIdx.x; i < limits[blockIdx.x + 1]; i += kThreads) {
    sum += squares[i];
  }
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

__global__ void gradient_scale_kernel(const double* sums, std::int64_t groups, double max_norm,
                                      double loss_scale, double* norm, double* scale) {
  constexpr double kFloor = 1e-6;  // what torch's clip_grad_norm_ adds to the norm
  double sum = 0.0;
  for (std::int64_t group = 0; group < groups; ++group) sum += sums[group];
  const double value = sqrt(sum) / loss_scale;
  const double clip = max_norm > 0.0 ? fmin(1.0, max_norm / (value + kFloor)) : 1.0;
  *norm = value;
  *scale = isfinite(value) ? clip / loss_scale : nan("");
}

}  // namespace

void squared_norms_cuda(const SquaredNormsArgs& args, Stream& stream) {
  const TrainedTensors& tensors = *args.tensors;
  cudaStream_t native = launch_stream(stream);
  auto* squares = args.workspace.as<double>();
  if (tensors.num_chunks() > 0) {
    chunk_squares_kernel<<<grid_size(tensors.num_chunks()), kThreads, 0, native>>>(
        tensors.entries().as<TrainedTensorEntry>(), tensors.chunks().as<TrainedTensorChunk>(), squares);
    FLEX_CUDA_CHECK(cudaGetLastError());
  }
  group_squares_kernel<<<grid_size(tensors.num_groups()), kThreads, 0, native>>>(
      squares, tensors.group_limits().as<std::int64_t>(), args.sums.as<double>());
  FLEX_CUDA_CHECK(cudaGetLastError());
}

void gradient_scale_cuda(const GradientScaleArgs& args, Stream& stream) {
  gradient_scale_kernel<<<1, 1, 0, launch_stream(stream)>>>(args.sums.as<double>(), args.sums.num_elements(),
                                                            args.max_norm, args.loss_scale,
                                                            args.norm.as<double>(), args.scale.as<double>());
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace flex
