#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/cuda_check.h"
#include "kernels/gemm_scratch.h"
#include "kernels/stream.h"
#include "kernels/tensor.h"

namespace flex::bench {

/// Bytes that rotated buffers should have together: three L2 caches of an H200.
inline constexpr std::int64_t kRotatedBytes = std::int64_t{180} << 20;

/// Median over samples of the time of one call, in us: a sample is a run of calls between two events.
/// call(index) is to rotate its buffers by the running index. For what is bound by memory that is fairer than
/// to flush the L2 before each call: a flush leaves the L2 full of lines that the call then has to write
/// back.
inline double rotated_time_us(Stream& stream, const std::function<void(int)>& call) {
  constexpr int kCallsPerSample = 20;
  constexpr int kWarmUpSamples = 2;
  constexpr int kSamples = 9;
  auto* native = static_cast<cudaStream_t>(stream.native());
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  FLEX_CUDA_CHECK(cudaEventCreate(&begin));
  FLEX_CUDA_CHECK(cudaEventCreate(&end));
  int index = 0;
  std::vector<double> samples;
  for (int sample = -kWarmUpSamples; sample < kSamples; ++sample) {
    FLEX_CUDA_CHECK(cudaEventRecord(begin, native));
    for (int i = 0; i < kCallsPerSample; ++i) call(index++);
    FLEX_CUDA_CHECK(cudaEventRecord(end, native));
    FLEX_CUDA_CHECK(cudaEventSynchronize(end));
    float elapsed_ms = 0.0F;
    FLEX_CUDA_CHECK(cudaEventElapsedTime(&elapsed_ms, begin, end));
    if (sample >= 0) samples.push_back(1e3 * static_cast<double>(elapsed_ms) / kCallsPerSample);
  }
  FLEX_CUDA_CHECK(cudaEventDestroy(begin));
  FLEX_CUDA_CHECK(cudaEventDestroy(end));
  std::nth_element(samples.begin(), samples.begin() + kSamples / 2, samples.end());
  return samples[kSamples / 2];
}

/// Bytes read and written by a device-to-device copy of 1 GiB, in 1e9 bytes/s.
inline double copy_ceiling_GBps(Device device, Stream& stream) {
  const std::int64_t bytes = std::int64_t{1} << 30;
  Tensor from(DType::kU8, {bytes}, device);
  Tensor to(DType::kU8, {bytes}, device);
  fill_uniform_cuda(from.view().data, DType::kF32, bytes / 4, 1, stream.native());
  const double us = rotated_time_us(stream, [&](int) {
    FLEX_CUDA_CHECK(cudaMemcpyAsync(to.view().data, from.view().data, static_cast<std::size_t>(bytes),
                                    cudaMemcpyDeviceToDevice, static_cast<cudaStream_t>(stream.native())));
  });
  return 2.0 * static_cast<double>(bytes) / us * 1e-3;
}

}  // namespace flex::bench
