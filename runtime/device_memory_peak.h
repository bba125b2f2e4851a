#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace flex {

/// How much more of a CUDA device's memory was in use, at the most, than when this object was made: what the
/// driver says at the moments that it is asked. The process' context is there before; other programs on the
/// device must keep what they have.
class DeviceMemoryPeak {
 public:
  /// @throws InputError for the CPU, DeviceError for a device that cannot be used.
  explicit DeviceMemoryPeak(Device device)
      : device_(device), free_before_(device_memory(device).free_bytes) {}

  /// Asks the driver now.
  void sample();
  /// Largest increase that a sample has seen.
  [[nodiscard]] std::int64_t bytes() const { return peak_bytes_; }

 private:
  Device device_;
  std::int64_t free_before_;
  std::int64_t peak_bytes_ = 0;
};

}  // namespace flex
