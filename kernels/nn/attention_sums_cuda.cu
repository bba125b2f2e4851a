#include <algorithm>

#include "kernels/nn/attention_params.cuh"
#include "kernels/nn/attention_sums.h"

namespace flex {
namespace {

constexpr int kThreads = 256;
// Two blocks for each of the 132 SMs of an H100 or H200, which run at once, and the most memory that their
// sums may take. Not asked of the device, so that the order of a sum does not depend on it.
constexpr std::int64_t kTargetBlocks = 264;
constexpr std::int64_t kMostBytes = std::int64_t{64} << 20;

// Adds all parts to the first one.
__global__ void __launch_bounds__(kThreads)
    add_parts_kernel(float* scores, std::int64_t parts, std::int64_t count) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  float sum = scores[i];
#pragma unroll 8
  for (std::int64_t part = 1; part < parts; ++part) sum += scores[part * count + i];
  scores[i] = sum;
}

// One offset of one head a warp: the pairs of slots that are so far apart. A pair of rows and a pair of
// columns make one of slots; both are told by the smaller index.
__global__ void __launch_bounds__(kThreads)
    bias_gradient_kernel(const __grid_constant__ AttentionParams p, const float* scores, float* dbias) {
  const std::int64_t warp = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarpSize;
  if (warp >= static_cast<std::int64_t>(p.num_heads) * p.num_offsets) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const auto head = static_cast<int>(warp / p.num_offsets);
  const int offset = static_cast<int>(warp % p.num_offsets);
  const int width = 2 * p.window_columns - 1;
  const int row_offset = offset / width - (p.window_rows - 1);  // query minus key
  const int column_offset = offset % width - (p.window_columns - 1);
  const int rows = p.window_rows - abs(row_offset);
  const int columns = p.window_columns - abs(column_offset);
  const float* of_head = scores + static_cast<std::int64_t>(head) * p.window_size * p.window_size;
  float sum = 0.0F;
  for (int pair = lane; pair < rows * columns; pair += kWarpSize) {
    const int key_row = pair / columns + max(-row_offset, 0);
    const int key_column = pair % columns + max(-column_offset, 0);
    const int key = key_row * p.window_columns + key_column;
    const int query = (key_row + row_offset) * p.window_columns + key_column + column_offset;
    sum += of_head[key * p.window_size + query];
  }
  sum = lanes_sum(sum);
  if (lane == 0) dbias[warp] = sum;
}

// One head a thread.
__global__ void scale_gradient_kernel(const float* scale, const float* sums, std::int64_t parts,
                                      std::int64_t heads, bool accumulate, float* dscale) {
  const std::int64_t head = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (head >= heads) return;
  float sum = 0.0F;
  for (std::int64_t part = 0; part < parts; ++part) sum += sums[part * heads + head];
  if (scale[head] > logf(static_cast<float>(kMaxCosineScale))) sum = 0.0F;
  dscale[head] = accumulate ? dscale[head] + sum : sum;
}

std::int64_t num_parts(const WindowLayout& layout, std::int64_t num_windows, std::int64_t num_heads) {
  const std::int64_t part_bytes = num_heads * layout.window_size() * layout.window_size() * 4;
  const std::int64_t most =
      std::max<std::int64_t>(1, std::min(kTargetBlocks / num_heads, kMostBytes / part_bytes));
  return std::min(most, num_windows);
}

}  // namespace

AttentionSums attention_sums(const WindowLayout& layout, std::int64_t num_windows, std::int64_t num_heads,
                             const TensorView& workspace) {
  const std::int64_t parts = num_parts(layout, num_windows, num_heads);
  auto* scores = workspace.as<float>();
  return {.parts = parts,
          .scores = scores,
          .scales = scores + parts * num_heads * layout.window_size() * layout.window_size()};
}

std::int64_t window_attention_backward_workspace_bytes_cuda(const WindowLayout& layout,
                                                            std::int64_t num_images, std::int64_t num_heads) {
  const std::int64_t parts = num_parts(layout, num_images * layout.num_windows().area(), num_heads);
  return parts * num_heads * (layout.window_size() * layout.window_size() + 1) *
         static_cast<std::int64_t>(sizeof(float));
}

void add_attention_sums_cuda(const WindowAttentionBackwardArgs& args, const AttentionSums& sums,
                             Stream& stream) {
  const AttentionParams p = attention_params(args);
  cudaStream_t native = launch_stream(stream);
  if (sums.parts == 0) {
    FLEX_CUDA_CHECK(cudaMemsetAsync(args.dbias_table.data, 0,
                                    static_cast<std::size_t>(args.dbias_table.bytes()), native));
  } else {
    const std::int64_t count = static_cast<std::int64_t>(p.num_heads) * p.window_size * p.window_size;
    add_parts_kernel<<<grid_size(ceil_div<std::int64_t>(count, kThreads)), kThreads, 0, native>>>(
        sums.scores, sums.parts, count);
    FLEX_CUDA_CHECK(cudaGetLastError());
    const std::int64_t warps = static_cast<std::int64_t>(p.num_heads) * p.num_offsets;
    bias_gradient_kernel<<<grid_size(ceil_div<std::int64_t>(warps * kWarpSize, kThreads)), kThreads, 0,
                           native>>>(p, sums.scores, args.dbias_table.as<float>());
    FLEX_CUDA_CHECK(cudaGetLastError());
  }
  if (args.kind != AttentionKind::kCosine) return;
  scale_gradient_kernel<<<grid_size(ceil_div<std::int64_t>(p.num_heads, kWarpSize)), kWarpSize, 0, native>>>(
      args.scale.as<float>(), sums.scales, sums.parts, p.num_heads, args.accumulate_dscale,
      args.dscale.as<float>());
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace flex
