#include <algorithm>

#include "kernels/moe/token_products.cuh"
#include "kernels/nn/layer_norm.h"
#include "kernels/nn/row_values.cuh"
#include "kernels/nn/sample_rows.h"

namespace flex {
namespace {

constexpr int kThreads = 256;
// Four blocks for each of the 132 SMs of an H100 or H200, unless they had fewer rows each than kLeastRows.
// Not asked of the device, so that the order of a sum does not depend on it.
constexpr std::int64_t kTargetBlocks = 528;
constexpr std::int64_t kLeastRows = 16;

std::int64_t num_blocks(std::int64_t rows) { return std::min(kTargetBlocks, ceil_div(rows, kLeastRows)); }

template <class T>
struct NormBackwardParams {
  const T* dy;
  const T* x;
  const float* weight;
  const float* mean;
  const float* rstd;
  const float* factors;  // null without them
  T* dx;
  float* partials;  // (2, blocks, channels): of dweight, of dbias
  std::int64_t rows, channels, rows_of_sample, rows_of_block;
  bool accumulate_dx;
};

// A lane's sums over rows, in registers, or where a row is read again and again in its group's shared memory.
template <class Shape>
class ColumnSums {
 public:
  __device__ ColumnSums(float* shared, std::int64_t channels, int lane)
      : shared_(shared), channels_(channels), lane_(lane) {
    if constexpr (Shape::kVectors == 0) {
      for (std::int64_t i = lane; i < 2 * channels; i += Shape::kLanes) shared_[i] = 0.0F;
      __syncwarp();
    }
  }
  __device__ void add(int j, std::int64_t column, const float (&weight)[Shape::kWidth],
                      const float (&bias)[Shape::kWidth]) {
#pragma unroll
    for (int v = 0; v < Shape::kWidth; ++v) {
      if constexpr (Shape::kVectors == 0) {
        shared_[column + v] += weight[v];
        shared_[channels_ + column + v] += bias[v];
      } else {
        sums_[0][j][v] += weight[v];
        sums_[1][j][v] += bias[v];
      }
    }
  }
  // Registers to the group's shared memory.
  __device__ void share() const {
    if constexpr (Shape::kVectors > 0) {
#pragma unroll
      for (int j = 0; j < Shape::kVectors; ++j) {
        const std::int64_t column = (static_cast<std::int64_t>(j) * Shape::kLanes + lane_) * Shape::kWidth;
        if (column >= channels_) continue;
#pragma unroll
        for (int v = 0; v < Shape::kWidth; ++v) {
          shared_[column + v] = sums_[0][j][v];
          shared_[channels_ + column + v] = sums_[1][j][v];
        }
      }
    }
  }

 private:
  float* shared_;
  std::int64_t channels_;
  int lane_;
  float sums_[2][Shape::kSlots][Shape::kWidth] = {};
};

template <class Shape>
__global__ void __launch_bounds__(kThreads)
    layer_norm_backward_kernel(const __grid_constant__ NormBackwardParams<typename Shape::T> p) {
  using T = typename Shape::T;
  constexpr int kWidth = Shape::kWidth;
  using Vector = Pack<T, kWidth>;
  extern __shared__ float shared[];  // (groups, 2, channels)
  const int lane = static_cast<int>(threadIdx.x) % Shape::kLanes;
  const int group = static_cast<int>(threadIdx.x) / Shape::kLanes;
  const int groups = static_cast<int>(blockDim.x) / Shape::kLanes;
  ColumnSums<Shape> sums(shared + group * 2 * p.channels, p.channels, lane);

  const std::int64_t begin = blockIdx.x * p.rows_of_block;
  const std::int64_t end = min(p.rows, begin + p.rows_of_block);
  for (std::int64_t first = begin; first < end; first += groups) {
    // Groups past the last row work on it too, at a factor of 0, and write nothing: a warp stays together.
    const bool exists = first + group < end;
    const std::int64_t row = exists ? first + group : end - 1;
    const float given = p.factors == nullptr ? 1.0F : p.factors[row / p.rows_of_sample];
    const float factor = exists ? given : 0.0F;
    const float mean = p.mean[row];
    const float rstd = p.rstd[row];
    const RowValues<Shape> x(p.x + row * p.channels, p.channels, lane);
    const RowValues<Shape> dy(p.dy + row * p.channels, p.channels, lane);
    float sum = 0.0F;
    float sum_along = 0.0F;
    for_each_vector(x, [&](int j, std::int64_t column) {
      float values[kWidth], gradients[kWidth], weight[kWidth];
      x.get(j, values);
      dy.get(j, gradients);
      load_floats(p.weight, column, weight);
#pragma unroll
      for (int v = 0; v < kWidth; ++v) {
        const float normalized = (values[v] - mean) * rstd;
        gradients[v] *= factor;
        values[v] = gradients[v] * normalized;
        sum += gradients[v] * weight[v];
        sum_along += values[v] * weight[v];
      }
      if (exists) sums.add(j, column, values, gradients);
    });
    sum = lanes_sum<Shape::kLanes>(sum) / static_cast<float>(p.channels);
    sum_along = lanes_sum<Shape::kLanes>(sum_along) / static_cast<float>(p.channels);
    for_each_vector(x, [&](int j, std::int64_t column) {
      if (!exists) return;
      float values[kWidth], gradients[kWidth], weight[kWidth], before[kWidth];
      x.get(j, values);
      dy.get(j, gradients);
      load_floats(p.weight, column, weight);
      T* place = p.dx + row * p.channels + column;
      if (p.accumulate_dx) Vector::unpack(Vector::load(place), before);
#pragma unroll
      for (int v = 0; v < kWidth; ++v) {
        const float normalized = (values[v] - mean) * rstd;
        values[v] = rstd * (gradients[v] * factor * weight[v] - sum - normalized * sum_along);
        if (p.accumulate_dx) values[v] += before[v];
      }
      Vector::store(place, Vector::pack(values));
    });
  }

  sums.share();
  __syncthreads();
  for (std::int64_t i = threadIdx.x; i < 2 * p.channels; i += blockDim.x) {
    float total = 0.0F;
    for (int g = 0; g < groups; ++g) total += shared[g * 2 * p.channels + i];
    const std::int64_t which = i / p.channels;
    p.partials[(which * gridDim.x + blockIdx.x) * p.channels + i - which * p.channels] = total;
  }
}

template <class Shape>
void launch(const LayerNormBackwardArgs& args, std::int64_t blocks, cudaStream_t stream) {
  using T = typename Shape::T;
  const std::int64_t rows = args.dy.size(0);
  const std::int64_t channels = args.dy.size(1);
  const NormBackwardParams<T> p = {.dy = args.dy.as<T>(),
                                   .x = args.x.as<T>(),
                                   .weight = args.weight.as<float>(),
                                   .mean = args.mean.as<float>(),
                                   .rstd = args.rstd.as<float>(),
                                   .factors = args.factors.as<float>(),
                                   .dx = args.dx.as<T>(),
                                   .partials = args.workspace.as<float>(),
                                   .rows = rows,
                                   .channels = channels,
                                   .rows_of_sample = rows_per_sample(rows, args.factors),
                                   .rows_of_block = ceil_div(rows, blocks),
                                   .accumulate_dx = args.accumulate_dx};
  // As many groups as their sums leave room for.
  constexpr std::int64_t kMostSharedBytes = 96 * 1024;
  const std::int64_t group_bytes = 2 * channels * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t most = std::max<std::int64_t>(1, kMostSharedBytes / group_bytes) * Shape::kLanes;
  const std::int64_t threads = std::clamp<std::int64_t>(most / kWarpSize * kWarpSize, kWarpSize, kThreads);
  const auto shared_bytes = static_cast<std::size_t>(threads / Shape::kLanes * group_bytes);
  allow_shared_bytes(layer_norm_backward_kernel<Shape>, shared_bytes);
  layer_norm_backward_kernel<Shape>
      <<<grid_size(blocks), static_cast<unsigned>(threads), shared_bytes, stream>>>(p);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

std::int64_t layer_norm_backward_workspace_bytes_cuda(std::int64_t rows, std::int64_t channels) {
  return 2 * num_blocks(rows) * channels * static_cast<std::int64_t>(sizeof(float));
}

void layer_norm_backward_cuda(const LayerNormBackwardArgs& args, Stream& stream) {
  const std::int64_t channels = args.dy.size(1);
  const std::int64_t blocks = num_blocks(args.dy.size(0));
  cudaStream_t native = launch_stream(stream);
  if (blocks > 0) {
    const bool vectors =
        channels * size_bytes(args.dy.dtype) % kVectorBytes == 0 &&
        aligned_to({args.dy.data, args.x.data, args.dx.data, args.weight.data}, kVectorBytes);
    dispatch_rows(args.dy.dtype, channels, vectors,
                  [&]<class Shape>() { launch<Shape>(args, blocks, native); });
  }
  const float* partials = args.workspace.as<float>();
  sum_partials_cuda(partials, blocks, {args.dweight.as<float>(), 1, channels, channels, 1}, stream,
                    args.accumulate_weights);
  sum_partials_cuda(partials + blocks * channels, blocks, {args.dbias.as<float>(), 1, channels, channels, 1},
                    stream, args.accumulate_weights);
}

}  // namespace flex
