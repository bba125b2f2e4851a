#include "kernels/nn/block_sum.cuh"
#include "kernels/nn/cross_entropy.h"

namespace flex {
namespace {

constexpr int kThreads = 512;

template <class T>
struct LossParams {
  const T* logits;
  const std::int32_t* labels;  // null with targets
  const float* targets;        // null with labels
  float* losses;
  T* dlogits;  // null where no gradient is wanted; may be logits
  std::int64_t classes;
  float kept;      // 1 - label smoothing
  float smoothed;  // label smoothing / classes
  float scale;     // of the gradient
};

// One sample a block. The row is read three times, from the caches but for the first.
template <class T>
__global__ void __launch_bounds__(kThreads) cross_entropy_kernel(const __grid_constant__ LossParams<T> p) {
  __shared__ float shared[kThreads / kWarpSize];
  const std::int64_t sample = blockIdx.x;
  const T* logits = p.logits + sample * p.classes;
  const std::int64_t label = p.labels == nullptr ? -1 : p.labels[sample];
  const float* targets = p.targets == nullptr ? nullptr : p.targets + sample * p.classes;
  const auto target = [&](std::int64_t k) {
    const float given = targets == nullptr ? (k == label ? 1.0F : 0.0F) : targets[k];
    return p.kept * given + p.smoothed;
  };

  float largest = -INFINITY;
  for (std::int64_t k = threadIdx.x; k < p.classes; k += kThreads)
    largest = fmaxf(largest, to_float(logits[k]));
  largest = block_max(largest, shared);

  float sum = 0.0F;
  float mass = 0.0F;     // of the targets
  float product = 0.0F;  // of targets and logits, which are taken relative to the largest
  for (std::int64_t k = threadIdx.x; k < p.classes; k += kThreads) {
    const float logit = to_float(logits[k]) - largest;
    sum += expf(logit);
    mass += target(k);
    product += target(k) * logit;
  }
  sum = block_sum(sum, shared);
  mass = block_sum(mass, shared);
  product = block_sum(product, shared);
  const float logsumexp = logf(sum);
  if (threadIdx.x == 0) p.losses[sample] = mass * logsumexp - product;
  if (p.dlogits == nullptr) return;

  T* dlogits = p.dlogits + sample * p.classes;
  for (std::int64_t k = threadIdx.x; k < p.classes; k += kThreads) {
    const float probability = expf(to_float(logits[k]) - largest - logsumexp);
    dlogits[k] = from_float<T>(p.scale * (probability * mass - target(k)));
  }
}

__global__ void __launch_bounds__(kThreads)
    total_loss_kernel(const float* losses, std::int64_t samples, float batch, float* loss) {
  __shared__ float shared[kThreads / kWarpSize];
  float sum = 0.0F;
  for (std::int64_t sample = threadIdx.x; sample < samples; sample += kThreads) sum += losses[sample];
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) *loss = sum / batch;
}

}  // namespace

void cross_entropy_cuda(const CrossEntropyArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  const std::int64_t samples = args.logits.size(0);
  const std::int64_t classes = args.logits.size(1);
  const auto batch = static_cast<double>(args.batch > 0 ? args.batch : (samples > 0 ? samples : 1));
  if (samples > 0) {
    dispatch_dtype(args.logits.dtype, [&]<class T>() {
      const LossParams<T> p = {
          .logits = args.logits.as<T>(),
          .labels = args.labels.as<std::int32_t>(),
          .targets = args.targets.as<float>(),
          .losses = args.losses.as<float>(),
          .dlogits = args.dlogits.as<T>(),
          .classes = classes,
          .kept = static_cast<float>(1.0 - args.label_smoothing),
          .smoothed = static_cast<float>(args.label_smoothing / static_cast<double>(classes)),
          .scale = static_cast<float>(args.dloss / batch)};
      cross_entropy_kernel<<<grid_size(samples), kThreads, 0, native>>>(p);
      FLEX_CUDA_CHECK(cudaGetLastError());
    });
  }
  total_loss_kernel<<<1, kThreads, 0, native>>>(args.losses.as<float>(), samples, static_cast<float>(batch),
                                                args.loss.as<float>());
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace flex
