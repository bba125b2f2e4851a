#include "base/philox.h"
#include "kernels/cuda_launch.cuh"
#include "kernels/moe/noise.h"

namespace flex {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    add_noise_kernel(const float* logits, float* noisy, std::int64_t count, std::int64_t num_experts,
                     GateNoiseArgs args) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const std::int64_t token = i / num_experts;
  const double normal = gate_noise_normal(args.seed, args.iteration, args.layer, args.first_token + token,
                                          i - token * num_experts);
  // Summed in double and rounded once, as on the CPU.
  noisy[i] = static_cast<float>(static_cast<double>(logits[i]) + args.stddev * normal);
}

}  // namespace

void add_gate_noise_cuda(const GateNoiseArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  const std::int64_t count = args.logits.num_elements();
  if (count == 0) return;
  add_noise_kernel<<<grid_size(ceil_div<std::int64_t>(count, kThreads)), kThreads, 0, native>>>(
      args.logits.as<float>(), args.noisy.as<float>(), count, args.logits.size(1), args);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace flex
