#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <vector>

#include "kernels/cuda_check.h"
#include "runtime/launch.h"
#include "tests/runtime/communicator_contract.h"
#include "tests/support/cuda.h"
#include "tests/support/tensors.h"

/// Ranks that share the first GPU: in-process ones, or in a job of processes NCCL's, by what the test is
/// linked with (cuda_ranks_local.cpp, cuda_ranks_nccl.cpp).
namespace flex::testing {

inline constexpr Device kGpu = Device::cuda(0);

/// Runs `body` once for each rank of a world of this topology. Among processes, each runs its own rank, and
/// those beyond the world's size none.
void run_cuda_ranks(const Topology& topology, Milliseconds deadline,
                    const std::function<void(Communicator&)>& body);

[[nodiscard]] inline Tensor on_gpu(const std::vector<double>& values, DType dtype = DType::kF64) {
  return make_tensor({std::ssize(values)}, values, dtype, kGpu);
}
[[nodiscard]] inline Tensor poisoned_on_gpu(std::int64_t count, DType dtype = DType::kF64) {
  return on_gpu(std::vector<double>(static_cast<std::size_t>(count), kPoison), dtype);
}
/// What the tensor holds after all work of `stream`.
[[nodiscard]] inline std::vector<double> after(Stream& stream, const Tensor& tensor) {
  stream.synchronize_blocking();
  return values_of(tensor);
}
/// Element `index` of `tensor`.
[[nodiscard]] inline void* at(Tensor& tensor, std::int64_t index) {
  return tensor.as<char>() + index * size_bytes(tensor.dtype());
}

/// A copy on the GPU.
inline void queue_copy(void* to, const void* from, std::int64_t bytes, const Stream& stream) {
  FLEX_CUDA_CHECK(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice,
                                  static_cast<cudaStream_t>(stream.native())));
}
/// Sets each byte.
inline void queue_fill(void* to, int byte, std::int64_t bytes, const Stream& stream) {
  FLEX_CUDA_CHECK(
      cudaMemsetAsync(to, byte, static_cast<std::size_t>(bytes), static_cast<cudaStream_t>(stream.native())));
}

/// One small collective on the GPU, waited for.
inline void meet_on_gpu(Communicator& communicator) {
  Stream stream(kGpu);
  Tensor value = on_gpu({1.0, 2.0});
  communicator.all_reduce(value.view().data, 2, DType::kF64, ReduceOp::kSum, Traffic::kGate, stream);
  EXPECT_EQ(after(stream, value),
            (std::vector<double>{1.0 * communicator.size(), 2.0 * communicator.size()}));
}

/// Skips without a GPU. Its context exists before the ranks begin, so that their deadlines do not pay for it.
class CudaRanks : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    FLEX_SKIP_WITHOUT_CUDA();
    static_cast<void>(on_gpu({1.0}));
  }
};

}  // namespace flex::testing
