#include <cmath>

#include "kernels/cuda_launch.cuh"
#include "kernels/nn/dropout.h"
#include "kernels/nn/dropout_words.h"

namespace flex {
namespace {

constexpr int kThreads = 256;
constexpr int kWords = 4;  // that one call of Philox gives

template <class T>
struct DropoutParams {
  const T* x;
  T* y;
  std::int64_t count;  // of elements
  std::int64_t channels;
  std::uint64_t threshold;  // words below it drop
  float kept;
  std::uint64_t seed;
  std::uint64_t iteration;
  std::uint32_t layer;
  std::int64_t first_row;
};

// A thread has kWidth neighbours of a row: whole blocks of Philox where rows are aligned, one word otherwise.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) dropout_kernel(const __grid_constant__ DropoutParams<T> p) {
  using Vector = Pack<T, kWidth>;
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kWidth;
  if (i >= p.count) return;
  const std::int64_t row = i / p.channels;
  const std::int64_t channel = i - row * p.channels;
  float values[kWidth];
  Vector::unpack(Vector::load(p.x + i), values);
  PhiloxBlock block{};
#pragma unroll
  for (int v = 0; v < kWidth; ++v) {
    if (v % kWords == 0)
      block = dropout_words(p.seed, p.iteration, p.layer, p.first_row + row, (channel + v) / kWords);
    const std::uint32_t word = block.words[kWidth == 1 ? channel % kWords : v % kWords];
    values[v] = word < p.threshold ? 0.0F : p.kept * values[v];
  }
  Vector::store(p.y + i, Vector::pack(values));
}

}  // namespace

void dropout_cuda(const DropoutArgs& args, Stream& stream) {
  constexpr double kTwoTo32 = 4294967296.0;
  cudaStream_t native = launch_stream(stream);
  if (args.x.num_elements() == 0) return;
  const bool vectors = args.x.size(1) * size_bytes(args.x.dtype) % kVectorBytes == 0 &&
                       aligned_to({args.x.data, args.y.data}, kVectorBytes);
  dispatch_dtype(args.x.dtype, [&]<class T>() {
    const DropoutParams<T> p = {.x = args.x.as<T>(),
                                .y = args.y.as<T>(),
                                .count = args.x.num_elements(),
                                .channels = args.x.size(1),
                                .threshold = static_cast<std::uint64_t>(std::ceil(args.rate * kTwoTo32)),
                                .kept = static_cast<float>(1.0 / (1.0 - args.rate)),
                                .seed = args.seed,
                                .iteration = args.iteration,
                                .layer = args.layer,
                                .first_row = args.first_row};
    const std::int64_t accesses = p.count / (vectors ? kVectorWidth<T> : 1);
    const unsigned blocks = grid_size(ceil_div<std::int64_t>(accesses, kThreads));
    if (vectors) {
      dropout_kernel<T, kVectorWidth<T>><<<blocks, kThreads, 0, native>>>(p);
    } else {
      dropout_kernel<T, 1><<<blocks, kThreads, 0, native>>>(p);
    }
    FLEX_CUDA_CHECK(cudaGetLastError());
  });
}

}  // namespace flex
