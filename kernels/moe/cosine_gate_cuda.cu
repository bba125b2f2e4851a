#include <algorithm>
#include <cmath>

#include "kernels/cuda_launch.cuh"
#include "kernels/moe/gate.h"
#include "kernels/moe/token_products.cuh"

// The products are those of token_products.cuh; here is what lies between them. With u = p/|p|, v = S/|S| and
// c = exp(min(t, ln 100)): logits = c u v.
namespace flex {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kColumnLanes = 32;  // columns of a block that sums columns
constexpr int kColumnRows = 8;
constexpr std::int64_t kMaxSlices = 256;
constexpr std::int64_t kMinTokensOfSlice = 64;
constexpr auto kNormFloor = static_cast<float>(kCosineNormFloor);

std::int64_t num_column_slices(std::int64_t tokens) {
  return std::min(ceil_div(tokens, kMinTokensOfSlice), kMaxSlices);
}

__device__ float cosine_scale(const float* temperature, float log_max_scale) {
  return expf(fminf(*temperature, log_max_scale));
}

float log_max_scale() { return static_cast<float>(std::log(kMaxCosineScale)); }

// |v| of `count` elements `stride` apart, for a whole warp.
__device__ float norm_of(const float* values, std::int64_t count, std::int64_t stride, int lane) {
  float sum = 0.0F;
  for (std::int64_t i = lane; i < count; i += kWarpSize)
    sum = fmaf(values[i * stride], values[i * stride], sum);
  return sqrtf(lanes_sum(sum));
}

// Gradient of v by way of v / max(|v|, floor), in place, for a whole warp; `scale` multiplies the given
// gradient first. Returns <v, scaled gradient> / max(|v|, floor). Where the floor binds, the divisor is a
// constant.
__device__ float normalize_backward(const float* v, float* gradient, std::int64_t count, std::int64_t stride,
                                    float scale, int lane) {
  const float norm = norm_of(v, count, stride, lane);
  const float divisor = fmaxf(norm, kNormFloor);
  float dot = 0.0F;
  for (std::int64_t i = lane; i < count; i += kWarpSize) {
    dot = fmaf(v[i * stride], scale * gradient[i * stride], dot);
  }
  dot = lanes_sum(dot);
  // Divided twice: the square of a small norm is no fp32 number.
  const float along = norm > kNormFloor ? dot / divisor / divisor : 0.0F;
  for (std::int64_t i = lane; i < count; i += kWarpSize) {
    gradient[i * stride] = (scale * gradient[i * stride] - along * v[i * stride]) / divisor;
  }
  return dot / divisor;
}

// A warp for each vector: `vectors` of them, `vector_stride` apart, elements `stride` apart.
struct Vectors {
  std::int64_t vectors;
  std::int64_t count;
  std::int64_t vector_stride;
  std::int64_t stride;
};

__device__ std::int64_t warp_index() {
  return static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarpSize;
}

// to = from / max(|from|, floor), times the cosine scale if there is a temperature.
__global__ void __launch_bounds__(kThreads) normalize_kernel(const float* from, float* to, Vectors shape,
                                                             const float* temperature, float log_max_scale) {
  const std::int64_t vector = warp_index();
  if (vector >= shape.vectors) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const float* source = from + vector * shape.vector_stride;
  float* target = to + vector * shape.vector_stride;
  const float scale = temperature == nullptr ? 1.0F : cosine_scale(temperature, log_max_scale);
  const float factor = scale / fmaxf(norm_of(source, shape.count, shape.stride, lane), kNormFloor);
  for (std::int64_t i = lane; i < shape.count; i += kWarpSize) {
    target[i * shape.stride] = source[i * shape.stride] * factor;
  }
}

// logits[t] *= c / max(|p[t]|, floor).
__global__ void __launch_bounds__(kThreads)
    scale_logits_kernel(const float* projected, float* logits, std::int64_t tokens, std::int64_t proj_dim,
                        std::int64_t experts, const float* temperature, float log_max_scale) {
  const std::int64_t token = warp_index();
  if (token >= tokens) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const float norm = norm_of(projected + token * proj_dim, proj_dim, 1, lane);
  const float factor = cosine_scale(temperature, log_max_scale) / fmaxf(norm, kNormFloor);
  for (std::int64_t expert = lane; expert < experts; expert += kWarpSize) {
    logits[token * experts + expert] *= factor;
  }
}

__global__ void __launch_bounds__(kThreads)
    normalize_backward_kernel(const float* v, float* gradient, Vectors shape) {
  const std::int64_t vector = warp_index();
  if (vector >= shape.vectors) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  normalize_backward(v + vector * shape.vector_stride, gradient + vector * shape.vector_stride, shape.count,
                     shape.stride, 1.0F, lane);
}

// The tokens of a slice, for every block of it.
struct Slice {
  std::int64_t begin;
  std::int64_t end;
  __device__ Slice(std::int64_t tokens, std::int64_t slices, std::int64_t index) {
    const std::int64_t size = ceil_div(tokens, slices);
    begin = min(index * size, tokens);
    end = min(begin + size, tokens);
  }
};

// dprojected through scale and normalization, in place, and the slice's sum of <u, du>, which is its share of
// dtemperature.
__global__ void __launch_bounds__(kThreads)
    projected_backward_kernel(const float* projected, float* dprojected, std::int64_t tokens,
                              std::int64_t proj_dim, const float* temperature, float log_max_scale,
                              float* partials) {
  __shared__ float shares[kWarps];
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const float scale = cosine_scale(temperature, log_max_scale);
  const Slice slice(tokens, gridDim.x, blockIdx.x);
  float share = 0.0F;
  for (std::int64_t token = slice.begin + warp; token < slice.end; token += kWarps) {
    share += normalize_backward(projected + token * proj_dim, dprojected + token * proj_dim, proj_dim, 1,
                                scale, lane);
  }
  if (lane == 0) shares[warp] = share;
  __syncthreads();
  if (threadIdx.x != 0) return;
  float sum = 0.0F;
  for (const float value : shares) sum += value;
  partials[blockIdx.x] = sum;
}

// dtemperature = sum of the slices' shares; zero where the clamp binds.
__global__ void temperature_kernel(const float* partials, std::int64_t slices, const float* temperature,
                                   float log_max_scale, float* dtemperature) {
  float sum = 0.0F;
  for (std::int64_t slice = 0; slice < slices; ++slice) sum += partials[slice];
  *dtemperature = *temperature > log_max_scale ? 0.0F : sum;
}

// partials[slice, column] = sum of the slice's rows.
__global__ void __launch_bounds__(kColumnLanes* kColumnRows)
    sum_columns_kernel(const float* rows, std::int64_t tokens, std::int64_t columns, float* partials) {
  __shared__ float shares[kColumnRows][kColumnLanes];
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kColumnLanes + threadIdx.x;
  const Slice slice(tokens, gridDim.y, blockIdx.y);
  float share = 0.0F;
  if (column < columns) {
    for (std::int64_t token = slice.begin + threadIdx.y; token < slice.end; token += kColumnRows) {
      share += rows[token * columns + column];
    }
  }
  shares[threadIdx.y][threadIdx.x] = share;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
  float sum = 0.0F;
  for (int row = 0; row < kColumnRows; ++row) sum += shares[row][threadIdx.x];
  partials[blockIdx.y * columns + column] = sum;
}

unsigned warp_blocks(std::int64_t vectors) { return grid_size(ceil_div<std::int64_t>(vectors, kWarps)); }

void launch_normalize(const ConstTensorView& from, const TensorView& to, const Vectors& shape,
                      const float* temperature, cudaStream_t stream) {
  if (shape.vectors == 0) return;
  normalize_kernel<<<warp_blocks(shape.vectors), kThreads, 0, stream>>>(from.as<float>(), to.as<float>(),
                                                                        shape, temperature, log_max_scale());
  FLEX_CUDA_CHECK(cudaGetLastError());
}

// The columns of a row-major (P, E) matrix, and the rows of a (T, P) one.
Vectors columns_of(const ConstTensorView& matrix) {
  return {.vectors = matrix.size(1), .count = matrix.size(0), .vector_stride = 1, .stride = matrix.size(1)};
}
Vectors rows_of(const ConstTensorView& matrix) {
  return {.vectors = matrix.size(0), .count = matrix.size(1), .vector_stride = matrix.size(1), .stride = 1};
}

// dsim = (c u)^T dlogits, then through the normalization. dprojected holds c u for a moment.
void sim_backward(const CosineGateBackwardArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  launch_normalize(args.projected, args.dprojected, rows_of(args.projected), args.temperature.as<float>(),
                   native);
  sum_outer_cuda(args.dlogits, args.dprojected, transposed(row_major(args.dsim_matrix)),
                 args.workspace.as<float>(), stream);
  const Vectors columns = columns_of(args.sim_matrix);
  if (columns.vectors == 0) return;
  normalize_backward_kernel<<<warp_blocks(columns.vectors), kThreads, 0, native>>>(
      args.sim_matrix.as<float>(), args.dsim_matrix.as<float>(), columns);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

// dprojected = c dlogits v^T through the normalization; dtemperature and dprojector_bias with it.
void projected_backward(const CosineGateBackwardArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  combine_rows_cuda(args.dlogits, transposed(row_major(args.normalized_sim)), args.dprojected, false, stream);
  const std::int64_t tokens = args.projected.size(0);
  const std::int64_t proj_dim = args.projected.size(1);
  const std::int64_t slices = num_column_slices(tokens);
  auto* partials = args.workspace.as<float>();
  if (slices > 0) {
    projected_backward_kernel<<<grid_size(slices), kThreads, 0, native>>>(
        args.projected.as<float>(), args.dprojected.as<float>(), tokens, proj_dim,
        args.temperature.as<float>(), log_max_scale(), partials);
    FLEX_CUDA_CHECK(cudaGetLastError());
  }
  temperature_kernel<<<1, 1, 0, native>>>(partials, slices, args.temperature.as<float>(), log_max_scale(),
                                          args.dtemperature.as<float>());
  FLEX_CUDA_CHECK(cudaGetLastError());
  if (slices > 0 && proj_dim > 0) {
    const dim3 blocks(grid_size(ceil_div<std::int64_t>(proj_dim, kColumnLanes)),
                      static_cast<unsigned>(slices));
    sum_columns_kernel<<<blocks, dim3(kColumnLanes, kColumnRows), 0, native>>>(args.dprojected.as<float>(),
                                                                               tokens, proj_dim, partials);
    FLEX_CUDA_CHECK(cudaGetLastError());
  }
  sum_partials_cuda(partials, slices, {args.dprojector_bias.as<float>(), 1, proj_dim, proj_dim, 1}, stream);
}

}  // namespace

void cosine_gate_cuda(const CosineGateArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  dot_rows_cuda(args.x, row_major(args.projector_weight), args.projector_bias.as<float>(), args.projected,
                stream);
  launch_normalize(args.sim_matrix, args.normalized_sim, columns_of(args.sim_matrix), nullptr, native);
  const ConstTensorView normalized_sim = args.normalized_sim;
  dot_rows_cuda(args.projected, transposed(row_major(normalized_sim)), nullptr, args.logits, stream);
  const std::int64_t tokens = args.logits.size(0);
  if (tokens == 0) return;
  scale_logits_kernel<<<warp_blocks(tokens), kThreads, 0, native>>>(
      args.projected.as<float>(), args.logits.as<float>(), tokens, args.projected.size(1),
      args.logits.size(1), args.temperature.as<float>(), log_max_scale());
  FLEX_CUDA_CHECK(cudaGetLastError());
}

void cosine_gate_backward_cuda(const CosineGateBackwardArgs& args, Stream& stream) {
  sim_backward(args, stream);
  projected_backward(args, stream);
  sum_outer_cuda(args.dprojected, args.x, row_major(args.dprojector_weight), args.workspace.as<float>(),
                 stream);
  combine_rows_cuda(args.dprojected, row_major(args.projector_weight), args.dx, args.accumulate_dx, stream);
}

// The steps follow each other in the stream and share the workspace.
std::int64_t cosine_gate_backward_workspace_bytes_cuda(std::int64_t num_tokens, std::int64_t model_dim,
                                                       std::int64_t proj_dim, std::int64_t num_experts) {
  const std::int64_t column_bytes = num_column_slices(num_tokens) * std::max<std::int64_t>(proj_dim, 1) *
                                    static_cast<std::int64_t>(sizeof(float));
  return std::max({sum_outer_workspace_bytes(num_tokens, num_experts, proj_dim),
                   sum_outer_workspace_bytes(num_tokens, proj_dim, model_dim), column_bytes});
}

}  // namespace flex
