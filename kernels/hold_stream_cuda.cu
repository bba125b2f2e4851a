#include <cmath>

#include "kernels/cuda_check.h"
#include "kernels/hold_stream.h"

namespace flex {
namespace {

__device__ unsigned long long now_ns() {
  unsigned long long ns = 0;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(ns));
  return ns;
}

__global__ void hold_kernel(unsigned long long duration_ns) {
  constexpr unsigned kPauseNs = 500;  // a reading of the timer each, and no load on the device in between
  const unsigned long long begin_ns = now_ns();
  while (now_ns() - begin_ns < duration_ns) __nanosleep(kPauseNs);
}

}  // namespace

void hold_stream_cuda(Stream& stream, double us) {
  FLEX_CUDA_CHECK(cudaSetDevice(stream.device().index));
  hold_kernel<<<1, 1, 0, static_cast<cudaStream_t>(stream.native())>>>(
      static_cast<unsigned long long>(std::llround(us * 1e3)));
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace flex
