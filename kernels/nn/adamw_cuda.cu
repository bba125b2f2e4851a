#include "kernels/nn/adamw.h"
#include "kernels/nn/chunk_vector.cuh"

namespace flex {
namespace {

constexpr int kThreads = 256;

struct StepParams {
  const double* scale;
  const std::int64_t* step;
  double learning_rate, weight_decay, beta1, beta2;
  float epsilon;
  float keep_average, new_average;
};

// The step's numbers, rounded from double.
struct StepFactors {
  float scale, rate, keep_decayed;
  float keep_first, new_first, keep_second, new_second;
  float first_correction, second_correction;
};

__device__ StepFactors factors_of(const StepParams& p) {
  const auto step = static_cast<double>(*p.step + 1);
  return {.scale = static_cast<float>(*p.scale),
          .rate = static_cast<float>(p.learning_rate),
          .keep_decayed = static_cast<float>(1.0 - p.learning_rate * p.weight_decay),
          .keep_first = static_cast<float>(p.beta1),
          .new_first = static_cast<float>(1.0 - p.beta1),
          .keep_second = static_cast<float>(p.beta2),
          .new_second = static_cast<float>(1.0 - p.beta2),
          .first_correction = static_cast<float>(1.0 - pow(p.beta1, step)),
          .second_correction = static_cast<float>(1.0 - pow(p.beta2, step))};
}

__device__ bool all_aligned(const TrainedTensorEntry& tensor) {
  return is_vector_aligned(tensor.gradient) && is_vector_aligned(tensor.parameter) &&
         is_vector_aligned(tensor.first_moment) && is_vector_aligned(tensor.second_moment) &&
         is_vector_aligned(tensor.narrow) && is_vector_aligned(tensor.average);
}

// Elements [index, index + count) of a tensor.
__device__ void update_four(const TrainedTensorEntry& tensor, const StepParams& p, const StepFactors& f,
                            std::int64_t index, int count, bool whole) {
  float gradient[kFour], parameter[kFour], first[kFour], second[kFour];
  load_gradient(tensor, index, count, whole, gradient);
  load_four(tensor.parameter + index, count, whole, parameter);
  load_four(tensor.first_moment + index, count, whole, first);
  load_four(tensor.second_moment + index, count, whole, second);
  const float kept = tensor.decays ? f.keep_decayed : 1.0F;
#pragma unroll
  for (int v = 0; v < kFour; ++v) {
    const float scaled = f.scale * gradient[v];
    first[v] = f.keep_first * first[v] + f.new_first * scaled;
    second[v] = f.keep_second * second[v] + f.new_second * scaled * scaled;
    const float divisor = sqrtf(second[v] / f.second_correction) + p.epsilon;
    parameter[v] = kept * parameter[v] - f.rate * (first[v] / f.first_correction) / divisor;
  }
  store_four(tensor.parameter + index, count, whole, parameter);
  store_four(tensor.first_moment + index, count, whole, first);
  store_four(tensor.second_moment + index, count, whole, second);
  if (tensor.narrow != nullptr) {
    if (tensor.narrow_dtype == DType::kF16) {
      store_four(static_cast<__half*>(tensor.narrow) + index, count, whole, parameter);
    } else {
      store_four(static_cast<__nv_bfloat16*>(tensor.narrow) + index, count, whole, parameter);
    }
  }
  if (tensor.average == nullptr) return;
  float average[kFour];
  load_four(tensor.average + index, count, whole, average);
#pragma unroll
  for (int v = 0; v < kFour; ++v) average[v] = p.keep_average * average[v] + p.new_average * parameter[v];
  store_four(tensor.average + index, count, whole, average);
}

// One chunk a block.
__global__ void __launch_bounds__(kThreads)
    adamw_kernel(const TrainedTensorEntry* tensors, const TrainedTensorChunk* chunks,
                 const __grid_constant__ StepParams p) {
  if (!isfinite(*p.scale)) return;
  __shared__ StepFactors factors;
  if (threadIdx.x == 0) factors = factors_of(p);
  __syncthreads();
  const TrainedTensorChunk chunk = chunks[blockIdx.x];
  const TrainedTensorEntry tensor = tensors[chunk.tensor];
  const int size = chunk_size(tensor, chunk);
  const bool aligned = all_aligned(tensor);
  for (int i = static_cast<int>(threadIdx.x) * kFour; i < size; i += kThreads * kFour) {
    const int count = min(kFour, size - i);
    update_four(tensor, p, factors, chunk.index * TrainedTensors::kChunk + i, count,
                aligned && count == kFour);
  }
}

__global__ void count_step_kernel(const double* scale, std::int64_t* step) {
  if (isfinite(*scale)) ++*step;
}

}  // namespace

void adamw_cuda(const AdamwArgs& args, Stream& stream) {
  const TrainedTensors& tensors = *args.tensors;
  cudaStream_t native = launch_stream(stream);
  const auto* scale = args.scale.as<double>();
  auto* step = args.step.as<std::int64_t>();
  if (tensors.num_chunks() > 0) {
    const StepParams p = {.scale = scale,
                          .step = step,
                          .learning_rate = args.learning_rate,
                          .weight_decay = args.weight_decay,
                          .beta1 = args.beta1,
                          .beta2 = args.beta2,
                          .epsilon = static_cast<float>(args.epsilon),
                          .keep_average = static_cast<float>(args.average_decay),
                          .new_average = static_cast<float>(1.0 - args.average_decay)};
    adamw_kernel<<<grid_size(tensors.num_chunks()), kThreads, 0, native>>>(
        tensors.entries().as<TrainedTensorEntry>(), tensors.chunks().as<TrainedTensorChunk>(), p);
    FLEX_CUDA_CHECK(cudaGetLastError());
  }
  count_step_kernel<<<1, 1, 0, native>>>(scale, step);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace flex
