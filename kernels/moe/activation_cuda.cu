#include "kernels/moe/activation.h"
#include "kernels/moe/expert_vector.cuh"

namespace flex {
namespace {

// Vectors of a thread, loaded before the first is used: enough bytes in flight to cover the memory's latency.
constexpr int kUnroll = 4;
constexpr std::int64_t kVectorsPerBlock = kExpertThreads * kUnroll;
constexpr float kInverseSqrt2 = 0.70710678118654752F;
constexpr float kInverseSqrt2Pi = 0.39894228040143268F;

// In fp32 the lower tail keeps its relative accuracy; 16-bit results cannot show it, and erff costs half.
template <class T>
__device__ float normal_cdf(float v) {
  if constexpr (sizeof(T) == 4) {
    return normcdff(v);
  } else {
    return 0.5F * (1.0F + erff(v * kInverseSqrt2));
  }
}

template <class T>
__device__ float exponential(float v) {
  if constexpr (sizeof(T) == 4) {
    return expf(v);
  } else {
    return __expf(v);
  }
}

template <class T>
__device__ float sigmoid(float v) {
  return 1.0F / (1.0F + exponential<T>(-v));
}

template <class T, Activation kActivation>
__device__ float activate(float v) {
  if constexpr (kActivation == Activation::kGelu) {
    return v * normal_cdf<T>(v);
  } else if constexpr (kActivation == Activation::kRelu) {
    return v > 0.0F ? v : 0.0F;
  } else {
    return v * sigmoid<T>(v);
  }
}

template <class T, Activation kActivation>
__device__ float activation_slope(float v) {
  if constexpr (kActivation == Activation::kGelu) {
    return normal_cdf<T>(v) + v * kInverseSqrt2Pi * exponential<T>(-0.5F * v * v);
  } else if constexpr (kActivation == Activation::kRelu) {
    return v > 0.0F ? 1.0F : 0.0F;
  } else {
    const float s = sigmoid<T>(v);
    return s * (1.0F + v * (1.0F - s));
  }
}

template <class T>
struct Operands {
  ExpertElements<const T> hidden, bias, up;
  ExpertElements<T> biased, activated;
  std::int64_t columns;
};

template <class T, int kWidth, Activation kActivation>
__global__ void __launch_bounds__(kExpertThreads)
    activate_kernel(const __grid_constant__ Operands<T> operands, const __grid_constant__ RowCounts counts) {
  using Vector = Pack<T, kWidth>;
  const unsigned expert = blockIdx.y;
  const std::int64_t row_vectors = operands.columns / kWidth;
  const std::int64_t count = counts.rows[expert] * row_vectors;
  const std::int64_t begin = blockIdx.x * kVectorsPerBlock + threadIdx.x;
  const bool has_bias = operands.bias.present();
  const bool has_up = operands.up.present();

  typename Vector::Raw hidden[kUnroll], up[kUnroll];
#pragma unroll
  for (int j = 0; j < kUnroll; ++j) {
    const std::int64_t i = begin + j * kExpertThreads;
    if (i >= count) continue;
    hidden[j] = Vector::load(operands.hidden.of(expert) + i * kWidth);
    if (has_up) up[j] = Vector::load(operands.up.of(expert) + i * kWidth);
  }
#pragma unroll
  for (int j = 0; j < kUnroll; ++j) {
    const std::int64_t i = begin + j * kExpertThreads;
    if (i >= count) continue;
    float values[kWidth];
    Vector::unpack(hidden[j], values);
    if (has_bias) {
      float bias[kWidth];
      Vector::unpack(Vector::load(operands.bias.of(expert) + i % row_vectors * kWidth), bias);
#pragma unroll
      for (int v = 0; v < kWidth; ++v) values[v] += bias[v];
      // Rounded as it is kept: the backward pass sees the value that was activated.
      const auto biased = Vector::pack(values);
      Vector::unpack(biased, values);
      if (operands.biased.present()) Vector::store(operands.biased.of(expert) + i * kWidth, biased);
    }
    float factors[kWidth];
    if (has_up) Vector::unpack(up[j], factors);
#pragma unroll
    for (int v = 0; v < kWidth; ++v) {
      values[v] = activate<T, kActivation>(values[v]);
      if (has_up) values[v] *= factors[v];
    }
    Vector::store(operands.activated.of(expert) + i * kWidth, Vector::pack(values));
  }
}

template <class T>
struct BackwardOperands {
  ExpertElements<const T> hidden, up, dactivated;
  ExpertElements<T> dhidden, dup;
  std::int64_t columns;
};

template <class T, int kWidth, Activation kActivation>
__global__ void __launch_bounds__(kExpertThreads)
    activate_backward_kernel(const __grid_constant__ BackwardOperands<T> operands,
                             const __grid_constant__ RowCounts counts) {
  using Vector = Pack<T, kWidth>;
  const unsigned expert = blockIdx.y;
  const std::int64_t count = counts.rows[expert] * (operands.columns / kWidth);
  const std::int64_t begin = blockIdx.x * kVectorsPerBlock + threadIdx.x;
  const bool has_up = operands.up.present();

  typename Vector::Raw hidden[kUnroll], gradient[kUnroll], up[kUnroll];
#pragma unroll
  for (int j = 0; j < kUnroll; ++j) {
    const std::int64_t i = begin + j * kExpertThreads;
    if (i >= count) continue;
    hidden[j] = Vector::load(operands.hidden.of(expert) + i * kWidth);
    gradient[j] = Vector::load(operands.dactivated.of(expert) + i * kWidth);
    if (has_up) up[j] = Vector::load(operands.up.of(expert) + i * kWidth);
  }
#pragma unroll
  for (int j = 0; j < kUnroll; ++j) {
    const std::int64_t i = begin + j * kExpertThreads;
    if (i >= count) continue;
    float values[kWidth], gradients[kWidth];
    Vector::unpack(hidden[j], values);
    Vector::unpack(gradient[j], gradients);
    if (has_up) {
      float factors[kWidth], by_up[kWidth];
      Vector::unpack(up[j], factors);
#pragma unroll
      for (int v = 0; v < kWidth; ++v) {
        by_up[v] = gradients[v] * activate<T, kActivation>(values[v]);
        gradients[v] *= factors[v];
      }
      Vector::store(operands.dup.of(expert) + i * kWidth, Vector::pack(by_up));
    }
#pragma unroll
    for (int v = 0; v < kWidth; ++v) gradients[v] *= activation_slope<T, kActivation>(values[v]);
    Vector::store(operands.dhidden.of(expert) + i * kWidth, Vector::pack(gradients));
  }
}

template <class T, int kWidth>
auto activate_kernel_of(Activation activation) {
  switch (activation) {
    case Activation::kGelu:
      return activate_kernel<T, kWidth, Activation::kGelu>;
    case Activation::kRelu:
      return activate_kernel<T, kWidth, Activation::kRelu>;
    default:
      return activate_kernel<T, kWidth, Activation::kSilu>;
  }
}
template <class T, int kWidth>
auto activate_backward_kernel_of(Activation activation) {
  switch (activation) {
    case Activation::kGelu:
      return activate_backward_kernel<T, kWidth, Activation::kGelu>;
    case Activation::kRelu:
      return activate_backward_kernel<T, kWidth, Activation::kRelu>;
    default:
      return activate_backward_kernel<T, kWidth, Activation::kSilu>;
  }
}

// Launches `kernel` over all vectors of (L, R, F) rows with the operands of `operands_from(first expert)`.
template <class Kernel, class OperandsFrom>
void launch(const ConstTensorView& hidden, int width, std::span<const std::int64_t> counts, Stream& stream,
            Kernel kernel, OperandsFrom operands_from) {
  const std::int64_t experts = hidden.size(0);
  for (std::int64_t first = 0; first < experts; first += kMaxExpertsPerLaunch) {
    const std::int64_t num = std::min(kMaxExpertsPerLaunch, experts - first);
    const RowCounts rows = row_counts(counts, hidden.size(1), first, num);
    const std::int64_t blocks = ceil_div(most_rows(rows, num) * (hidden.size(2) / width), kVectorsPerBlock);
    if (blocks == 0) continue;
    const dim3 grid(grid_size(blocks), static_cast<unsigned>(num));
    kernel<<<grid, kExpertThreads, 0, launch_stream(stream)>>>(operands_from(first), rows);
    FLEX_CUDA_CHECK(cudaGetLastError());
  }
}

}  // namespace

void activate_cuda(const ActivateArgs& args, Stream& stream) {
  const bool vectors = fills_vectors(args.hidden.size(2), args.hidden.dtype) &&
                       begins_at_vectors(args.hidden) && begins_at_vectors(args.bias) &&
                       begins_at_vectors(args.up) && begins_at_vectors(args.biased) &&
                       begins_at_vectors(args.activated);
  dispatch_vectors(args.hidden.dtype, vectors, [&]<class T, int kWidth>() {
    launch(args.hidden, kWidth, args.counts, stream, activate_kernel_of<T, kWidth>(args.activation),
           [&](std::int64_t first) {
             return Operands<T>{.hidden = elements_from<const T>(args.hidden, first),
                                .bias = elements_from<const T>(args.bias, first),
                                .up = elements_from<const T>(args.up, first),
                                .biased = elements_from<T>(args.biased, first),
                                .activated = elements_from<T>(args.activated, first),
                                .columns = args.hidden.size(2)};
           });
  });
}

void activate_backward_cuda(const ActivateBackwardArgs& args, Stream& stream) {
  const bool vectors = fills_vectors(args.hidden.size(2), args.hidden.dtype) &&
                       begins_at_vectors(args.hidden) && begins_at_vectors(args.up) &&
                       begins_at_vectors(args.dactivated) && begins_at_vectors(args.dhidden) &&
                       begins_at_vectors(args.dup);
  dispatch_vectors(args.hidden.dtype, vectors, [&]<class T, int kWidth>() {
    launch(args.hidden, kWidth, args.counts, stream, activate_backward_kernel_of<T, kWidth>(args.activation),
           [&](std::int64_t first) {
             return BackwardOperands<T>{.hidden = elements_from<const T>(args.hidden, first),
                                        .up = elements_from<const T>(args.up, first),
                                        .dactivated = elements_from<const T>(args.dactivated, first),
                                        .dhidden = elements_from<T>(args.dhidden, first),
                                        .dup = elements_from<T>(args.dup, first),
                                        .columns = args.hidden.size(2)};
           });
  });
}

}  // namespace flex
