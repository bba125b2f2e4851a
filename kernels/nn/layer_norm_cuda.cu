#include "kernels/nn/layer_norm.h"
#include "kernels/nn/row_values.cuh"
#include "kernels/nn/sample_rows.h"

namespace flex {
namespace {

constexpr int kThreads = 256;

template <class T>
struct NormParams {
  const T* x;
  const float* weight;
  const float* bias;
  const T* residual;     // null without one
  const float* factors;  // null without them
  T* y;
  float* mean;  // null where nothing is kept
  float* rstd;
  std::int64_t rows, channels, rows_of_sample;
  float epsilon;
};

template <class Shape>
__global__ void __launch_bounds__(kThreads)
    layer_norm_kernel(const __grid_constant__ NormParams<typename Shape::T> p) {
  using T = typename Shape::T;
  constexpr int kWidth = Shape::kWidth;
  using Vector = Pack<T, kWidth>;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  // Lanes past the last row work on it too, and write nothing: a warp stays together.
  const bool exists = index / Shape::kLanes < p.rows;
  const std::int64_t row = exists ? index / Shape::kLanes : p.rows - 1;
  const RowValues<Shape> x(p.x + row * p.channels, p.channels, static_cast<int>(index % Shape::kLanes));
  const auto channels = static_cast<float>(p.channels);

  float sum = 0.0F;
  for_each_vector(x, [&](int j, std::int64_t /*column*/) {
    float values[kWidth];
    x.get(j, values);
#pragma unroll
    for (int v = 0; v < kWidth; ++v) sum += values[v];
  });
  const float mean = lanes_sum<Shape::kLanes>(sum) / channels;
  float squares = 0.0F;
  for_each_vector(x, [&](int j, std::int64_t /*column*/) {
    float values[kWidth];
    x.get(j, values);
#pragma unroll
    for (int v = 0; v < kWidth; ++v) squares += (values[v] - mean) * (values[v] - mean);
  });
  const float rstd = 1.0F / sqrtf(lanes_sum<Shape::kLanes>(squares) / channels + p.epsilon);

  const float factor = p.factors == nullptr ? 1.0F : p.factors[row / p.rows_of_sample];
  for_each_vector(x, [&](int j, std::int64_t column) {
    float values[kWidth], weight[kWidth], bias[kWidth], residual[kWidth];
    x.get(j, values);
    load_floats(p.weight, column, weight);
    load_floats(p.bias, column, bias);
    if (p.residual != nullptr) Vector::unpack(Vector::load(p.residual + row * p.channels + column), residual);
#pragma unroll
    for (int v = 0; v < kWidth; ++v) {
      values[v] = (values[v] - mean) * rstd * weight[v] + bias[v];
      if (p.residual != nullptr) values[v] = residual[v] + factor * values[v];
    }
    if (exists) Vector::store(p.y + row * p.channels + column, Vector::pack(values));
  });
  if (!exists || p.mean == nullptr || index % Shape::kLanes != 0) return;
  p.mean[row] = mean;
  p.rstd[row] = rstd;
}

}  // namespace

void layer_norm_cuda(const LayerNormArgs& args, Stream& stream) {
  const std::int64_t rows = args.x.size(0);
  const std::int64_t channels = args.x.size(1);
  cudaStream_t native = launch_stream(stream);
  if (rows == 0) return;
  const bool vectors =
      channels * size_bytes(args.x.dtype) % kVectorBytes == 0 &&
      aligned_to({args.x.data, args.residual.data, args.y.data, args.weight.data, args.bias.data},
                 kVectorBytes);
  dispatch_rows(args.x.dtype, channels, vectors, [&]<class Shape>() {
    using T = typename Shape::T;
    const NormParams<T> p = {.x = args.x.as<T>(),
                             .weight = args.weight.as<float>(),
                             .bias = args.bias.as<float>(),
                             .residual = args.residual.as<T>(),
                             .factors = args.factors.as<float>(),
                             .y = args.y.as<T>(),
                             .mean = args.mean.as<float>(),
                             .rstd = args.rstd.as<float>(),
                             .rows = rows,
                             .channels = channels,
                             .rows_of_sample = rows_per_sample(rows, args.factors),
                             .epsilon = static_cast<float>(args.epsilon)};
    const unsigned blocks = grid_size(ceil_div<std::int64_t>(rows * Shape::kLanes, kThreads));
    layer_norm_kernel<Shape><<<blocks, kThreads, 0, native>>>(p);
    FLEX_CUDA_CHECK(cudaGetLastError());
  });
}

}  // namespace flex
