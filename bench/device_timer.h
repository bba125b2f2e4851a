#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/cuda_check.h"
#include "kernels/stream.h"
#include "kernels/tensor.h"

namespace flex::bench {

/// Runs of one piece of work, in microseconds.
struct Timing {
  double median_us = 0.0;
  double low_us = 0.0;   ///< 10th percentile
  double high_us = 0.0;  ///< 90th percentile
};

/// Times what a function queues on a stream by CUDA events, after a warm-up. Before each run twice the L2 is
/// overwritten, so that no run finds its operands there and the host is ahead of the device.
class DeviceTimer {
 public:
  DeviceTimer(Device device, int num_runs) : num_runs_(num_runs), flushed_(flush_memory(device)) {
    FLEX_CUDA_CHECK(cudaEventCreate(&begin_));
    FLEX_CUDA_CHECK(cudaEventCreate(&end_));
  }
  ~DeviceTimer() {
    static_cast<void>(cudaEventDestroy(begin_));
    static_cast<void>(cudaEventDestroy(end_));
  }
  DeviceTimer(const DeviceTimer&) = delete;
  DeviceTimer& operator=(const DeviceTimer&) = delete;

  template <class Function>
  Timing time(Stream& stream, const Function& function) {
    constexpr int kWarmUpRuns = 3;
    std::vector<double> runs_us;
    for (int run = 0; run < kWarmUpRuns + num_runs_; ++run) {
      const double elapsed_us = time_once(stream, function);
      if (run >= kWarmUpRuns) runs_us.push_back(elapsed_us);
    }
    std::sort(runs_us.begin(), runs_us.end());
    const auto at = [&](double quantile) {
      return runs_us[static_cast<std::size_t>(
          std::lround(quantile * static_cast<double>(runs_us.size() - 1)))];
    };
    return {.median_us = at(0.5), .low_us = at(0.1), .high_us = at(0.9)};
  }

 private:
  template <class Function>
  double time_once(Stream& stream, const Function& function) {
    auto* native = static_cast<cudaStream_t>(stream.native());
    FLEX_CUDA_CHECK(
        cudaMemsetAsync(flushed_.view().data, 0, static_cast<std::size_t>(flushed_.bytes()), native));
    FLEX_CUDA_CHECK(cudaEventRecord(begin_, native));
    function();
    FLEX_CUDA_CHECK(cudaEventRecord(end_, native));
    FLEX_CUDA_CHECK(cudaEventSynchronize(end_));
    float elapsed_ms = 0.0F;
    FLEX_CUDA_CHECK(cudaEventElapsedTime(&elapsed_ms, begin_, end_));
    return static_cast<double>(elapsed_ms) * 1e3;
  }

  static Tensor flush_memory(Device device) {
    int l2_bytes = 0;
    FLEX_CUDA_CHECK(cudaDeviceGetAttribute(&l2_bytes, cudaDevAttrL2CacheSize, device.index));
    // At least what takes the device longer to write than the host to queue some ten launches.
    constexpr std::int64_t kLeastBytes = std::int64_t{256} << 20;
    return {DType::kU8, {std::max<std::int64_t>(kLeastBytes, 2 * std::int64_t{l2_bytes})}, device};
  }

  int num_runs_;
  Tensor flushed_;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

}  // namespace flex::bench
