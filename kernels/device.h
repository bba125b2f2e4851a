#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

namespace flex {

enum class DeviceKind : std::uint8_t { kCpu, kCuda };

/// Where memory lies and work runs: the host, or one CUDA GPU.
struct Device {
  DeviceKind kind = DeviceKind::kCpu;
  int index = 0;  ///< CUDA ordinal; 0 on the CPU

  [[nodiscard]] static constexpr Device cpu() { return {}; }
  [[nodiscard]] static constexpr Device cuda(int index) { return {DeviceKind::kCuda, index}; }
  [[nodiscard]] constexpr bool is_cpu() const { return kind == DeviceKind::kCpu; }
  [[nodiscard]] constexpr bool is_cuda() const { return kind == DeviceKind::kCuda; }

  friend constexpr auto operator<=>(const Device&, const Device&) = default;
};

/// True when this build holds the CUDA kernels.
#ifdef FLEX_HAS_CUDA
inline constexpr bool kHasCuda = true;
#else
inline constexpr bool kHasCuda = false;
#endif

/// `cpu` or `cuda:N`.
[[nodiscard]] std::string to_string(Device device);

/// Parses `cpu`, `cuda` (ordinal 0) or `cuda:N`. @throws InputError for anything else.
[[nodiscard]] Device parse_device(std::string_view text);

/// Number of usable CUDA devices: 0 without a driver, a GPU, or CUDA in this build. Never throws.
[[nodiscard]] int num_cuda_devices();

/// @throws DeviceError if `device` cannot be used by this build on this machine, saying what would help.
void require_usable(Device device);

/// Memory of a CUDA device as its driver sees it, all programs that use the device together.
struct DeviceMemory {
  std::int64_t free_bytes = 0;
  std::int64_t total_bytes = 0;
};
/// Asks the driver (cudaMemGetInfo), which makes the process' context on the device if there is none.
/// @throws DeviceError like require_usable(), InputError for the CPU.
[[nodiscard]] DeviceMemory device_memory(Device device);

}  // namespace flex
