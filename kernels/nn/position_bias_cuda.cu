#include "kernels/cuda_launch.cuh"
#include "kernels/nn/position_bias.h"

namespace flex {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarpSize;

struct BiasParams {
  const float* fc1_weight;
  const float* fc1_bias;
  const float* fc2_weight;
  const float* table;   // backward
  const float* dtable;  // backward
  int num_offsets, heads, hidden;
  int window_rows, window_columns;
  float row_extent, column_extent;  // what offsets are divided by
  bool bounded;
};

template <class Args>
BiasParams params_of(const Args& args) {
  const auto extent = [](std::int64_t window, std::int64_t pretrained) {
    return static_cast<float>(max((pretrained > 0 ? pretrained : window) - 1, std::int64_t{1}));
  };
  return {.fc1_weight = args.fc1_weight.template as<float>(),
          .fc1_bias = args.fc1_bias.template as<float>(),
          .fc2_weight = args.fc2_weight.template as<float>(),
          .table = nullptr,
          .dtable = nullptr,
          .num_offsets = static_cast<int>(num_offsets(args.window)),
          .heads = static_cast<int>(args.fc2_weight.size(0)),
          .hidden = static_cast<int>(args.fc2_weight.size(1)),
          .window_rows = static_cast<int>(args.window.rows),
          .window_columns = static_cast<int>(args.window.columns),
          .row_extent = extent(args.window.rows, args.pretrained_window.rows),
          .column_extent = extent(args.window.columns, args.pretrained_window.columns),
          .bounded = args.bounded};
}

__device__ float log_spaced(int offset, float extent) {
  const float v = 8.0F * static_cast<float>(offset) / extent;
  return copysignf(log2f(1.0F + fabsf(v)) / 3.0F, v);  // log2(8) = 3
}

__device__ float2 input_of(const BiasParams& p, int offset) {
  const int width = 2 * p.window_columns - 1;
  return make_float2(log_spaced(offset / width - (p.window_rows - 1), p.row_extent),
                     log_spaced(offset % width - (p.window_columns - 1), p.column_extent));
}

__device__ float preactivation(const BiasParams& p, float2 input, int column) {
  return p.fc1_weight[2 * column] * input.x + p.fc1_weight[2 * column + 1] * input.y + p.fc1_bias[column];
}

// One offset a block, its heads shared out to the warps.
__global__ void __launch_bounds__(kThreads)
    position_bias_kernel(const __grid_constant__ BiasParams p, float* table) {
  extern __shared__ float activated[];  // (hidden)
  const int offset = static_cast<int>(blockIdx.x);
  const float2 input = input_of(p, offset);
  for (int column = static_cast<int>(threadIdx.x); column < p.hidden; column += kThreads) {
    activated[column] = fmaxf(preactivation(p, input, column), 0.0F);
  }
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  for (int head = static_cast<int>(threadIdx.x) / kWarpSize; head < p.heads; head += kWarps) {
    float net = 0.0F;
    for (int column = lane; column < p.hidden; column += kWarpSize) {
      net += p.fc2_weight[static_cast<std::int64_t>(head) * p.hidden + column] * activated[column];
    }
    net = lanes_sum(net);
    if (lane != 0) continue;
    table[static_cast<std::int64_t>(head) * p.num_offsets + offset] =
        p.bounded ? static_cast<float>(kPositionBiasScale) / (1.0F + expf(-net)) : net;
  }
}

__device__ float net_gradient(const BiasParams& p, int head, int offset) {
  const std::int64_t i = static_cast<std::int64_t>(head) * p.num_offsets + offset;
  const float gradient = p.dtable[i];
  if (!p.bounded) return gradient;
  const float value = p.table[i];
  return gradient * value * (1.0F - value / static_cast<float>(kPositionBiasScale));
}

struct BiasGradients {
  float* fc1_weight;
  float* fc1_bias;
  float* fc2_weight;
  bool accumulate;

  __device__ void write(float* to, float sum) const { *to = accumulate ? *to + sum : sum; }
};

// One hidden column a block. Its values before the relu are kept for all offsets; warps take heads for fc2,
// and offsets are shared out to the threads for fc1.
__global__ void __launch_bounds__(kThreads)
    position_bias_backward_kernel(const __grid_constant__ BiasParams p,
                                  const __grid_constant__ BiasGradients gradients) {
  extern __shared__ float before[];  // (num_offsets)
  __shared__ float warp_sums[3][kWarps];
  const int column = static_cast<int>(blockIdx.x);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  float sums[3] = {};  // of fc1: by the row's weight, the column's, and the bias
  for (int offset = static_cast<int>(threadIdx.x); offset < p.num_offsets; offset += kThreads) {
    const float2 input = input_of(p, offset);
    before[offset] = preactivation(p, input, column);
    if (before[offset] <= 0.0F) continue;
    float gradient = 0.0F;
    for (int head = 0; head < p.heads; ++head) {
      gradient +=
          net_gradient(p, head, offset) * p.fc2_weight[static_cast<std::int64_t>(head) * p.hidden + column];
    }
    sums[0] += gradient * input.x;
    sums[1] += gradient * input.y;
    sums[2] += gradient;
  }
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    sums[i] = lanes_sum(sums[i]);
    if (lane == 0) warp_sums[i][warp] = sums[i];
  }
  __syncthreads();
  if (threadIdx.x < 3) {
    float total = 0.0F;
    for (int w = 0; w < kWarps; ++w) total += warp_sums[threadIdx.x][w];
    gradients.write(
        threadIdx.x == 2 ? gradients.fc1_bias + column : gradients.fc1_weight + 2 * column + threadIdx.x,
        total);
  }
  for (int head = warp; head < p.heads; head += kWarps) {
    float sum = 0.0F;
    for (int offset = lane; offset < p.num_offsets; offset += kWarpSize) {
      sum += net_gradient(p, head, offset) * fmaxf(before[offset], 0.0F);
    }
    sum = lanes_sum(sum);
    if (lane == 0)
      gradients.write(gradients.fc2_weight + static_cast<std::int64_t>(head) * p.hidden + column, sum);
  }
}

}  // namespace

void position_bias_cuda(const PositionBiasArgs& args, Stream& stream) {
  const BiasParams p = params_of(args);
  cudaStream_t native = launch_stream(stream);
  if (p.heads == 0) return;
  const std::size_t shared_bytes = static_cast<std::size_t>(p.hidden) * sizeof(float);
  allow_shared_bytes(position_bias_kernel, shared_bytes);
  position_bias_kernel<<<grid_size(p.num_offsets), kThreads, shared_bytes, native>>>(p,
                                                                                     args.table.as<float>());
  FLEX_CUDA_CHECK(cudaGetLastError());
}

void position_bias_backward_cuda(const PositionBiasBackwardArgs& args, Stream& stream) {
  BiasParams p = params_of(args);
  p.table = args.table.as<float>();
  p.dtable = args.dtable.as<float>();
  cudaStream_t native = launch_stream(stream);
  if (p.hidden == 0) return;
  const BiasGradients gradients = {.fc1_weight = args.dfc1_weight.as<float>(),
                                   .fc1_bias = args.dfc1_bias.as<float>(),
                                   .fc2_weight = args.dfc2_weight.as<float>(),
                                   .accumulate = args.accumulate_weights};
  const std::size_t shared_bytes = static_cast<std::size_t>(p.num_offsets) * sizeof(float);
  allow_shared_bytes(position_bias_backward_kernel, shared_bytes);
  position_bias_backward_kernel<<<grid_size(p.hidden), kThreads, shared_bytes, native>>>(p, gradients);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace flex
