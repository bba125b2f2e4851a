#include "kernels/cuda_launch.cuh"
#include "kernels/nn/residual.h"
#include "kernels/nn/sample_rows.h"

namespace flex {
namespace {

constexpr int kThreads = 256;

template <class T>
struct ResidualParams {
  const T* residual;  // null: zeros
  const T* x;
  const float* factors;  // null: ones
  T* y;
  std::int64_t count;  // of elements
  std::int64_t elements_of_sample;
};

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) residual_kernel(const __grid_constant__ ResidualParams<T> p) {
  using Vector = Pack<T, kWidth>;
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kWidth;
  if (i >= p.count) return;
  const float factor = p.factors == nullptr ? 1.0F : p.factors[i / p.elements_of_sample];
  float values[kWidth], residual[kWidth] = {};
  Vector::unpack(Vector::load(p.x + i), values);
  if (p.residual != nullptr) Vector::unpack(Vector::load(p.residual + i), residual);
#pragma unroll
  for (int v = 0; v < kWidth; ++v) values[v] = residual[v] + factor * values[v];
  Vector::store(p.y + i, Vector::pack(values));
}

void launch_residual(const AddResidualArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  if (args.x.num_elements() == 0) return;
  // Vectors must not reach into the next sample.
  const bool vectors = args.x.size(1) * size_bytes(args.x.dtype) % kVectorBytes == 0 &&
                       aligned_to({args.residual.data, args.x.data, args.y.data}, kVectorBytes);
  dispatch_dtype(args.x.dtype, [&]<class T>() {
    const ResidualParams<T> p = {
        .residual = args.residual.as<T>(),
        .x = args.x.as<T>(),
        .factors = args.factors.as<float>(),
        .y = args.y.as<T>(),
        .count = args.x.num_elements(),
        .elements_of_sample = rows_per_sample(args.x.size(0), args.factors) * args.x.size(1)};
    const std::int64_t accesses = p.count / (vectors ? kVectorWidth<T> : 1);
    const unsigned blocks = grid_size(ceil_div<std::int64_t>(accesses, kThreads));
    if (vectors) {
      residual_kernel<T, kVectorWidth<T>><<<blocks, kThreads, 0, native>>>(p);
    } else {
      residual_kernel<T, 1><<<blocks, kThreads, 0, native>>>(p);
    }
    FLEX_CUDA_CHECK(cudaGetLastError());
  });
}

}  // namespace

void add_residual_cuda(const AddResidualArgs& args, Stream& stream) { launch_residual(args, stream); }
void scale_rows_cuda(const ScaleRowsArgs& args, Stream& stream) {
  launch_residual({.residual = {}, .x = args.x, .factors = args.factors, .y = args.y}, stream);
}

}  // namespace flex
