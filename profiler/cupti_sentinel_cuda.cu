#include "kernels/cuda_check.h"
#include "profiler/cupti_sentinel.h"

namespace flex {
namespace {

__global__ void cupti_sentinel_kernel() {}

/// A stream that others' work does not wait for.
struct OwnStream {
  OwnStream() { FLEX_CUDA_CHECK(cudaStreamCreateWithFlags(&native, cudaStreamNonBlocking)); }
  ~OwnStream() { static_cast<void>(cudaStreamDestroy(native)); }
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;

  cudaStream_t native = nullptr;
};

}  // namespace

void run_cupti_sentinel_blocking(Device device) {
  FLEX_CUDA_CHECK(cudaSetDevice(device.index));
  const OwnStream stream;
  cupti_sentinel_kernel<<<1, 1, 0, stream.native>>>();
  FLEX_CUDA_CHECK(cudaGetLastError());
  FLEX_CUDA_CHECK(cudaStreamSynchronize(stream.native));
}

}  // namespace flex
