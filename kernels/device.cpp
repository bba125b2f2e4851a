#include "kernels/device.h"

#include <charconv>

#include "base/require.h"

#ifdef FLEX_HAS_CUDA
#include "kernels/cuda_check.h"
#endif

namespace flex {

std::string to_string(Device device) {
  return device.is_cpu() ? "cpu" : fmt::format("cuda:{}", device.index);
}

Device parse_device(std::string_view text) {
  if (text == "cpu") return Device::cpu();
  if (text == "cuda") return Device::cuda(0);
  constexpr std::string_view kPrefix = "cuda:";
  if (text.starts_with(kPrefix)) {
    const std::string_view digits = text.substr(kPrefix.size());
    int index = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
    if (error == std::errc{} && end == digits.data() + digits.size() && index >= 0)
      return Device::cuda(index);
  }
  fail("device '{}' is unknown; use cpu or cuda:N", text);
}

#ifdef FLEX_HAS_CUDA

int num_cuda_devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  static_cast<void>(cudaGetLastError());  // no driver or no GPU is an answer here, not a failure to keep
  return 0;
}

void require_usable(Device device) {
  if (device.is_cpu()) return;
  const int count = num_cuda_devices();
  require<DeviceError>(count > 0,
                       "{}: no CUDA device can be used on this machine (no GPU, or no driver); use cpu",
                       to_string(device));
  require<DeviceError>(device.index < count, "{}: this machine has {} CUDA device(s), cuda:0 to cuda:{}",
                       to_string(device), count, count - 1);
}

#else

int num_cuda_devices() { return 0; }

void require_usable(Device device) {
  require<DeviceError>(device.is_cpu(), "{}: this build is CPU-only; reconfigure with -DFLEX_CUDA=ON",
                       to_string(device));
}

#endif

DeviceMemory device_memory(Device device) {
  require(device.is_cuda(), "device_memory: asked for {}; only a CUDA device's memory is counted",
          to_string(device));
  require_usable(device);
  DeviceMemory memory;
#ifdef FLEX_HAS_CUDA
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  FLEX_CUDA_CHECK(cudaSetDevice(device.index));
  FLEX_CUDA_CHECK(cudaMemGetInfo(&free_bytes, &total_bytes));
  memory = {static_cast<std::int64_t>(free_bytes), static_cast<std::int64_t>(total_bytes)};
#endif
  return memory;
}

}  // namespace flex
