#include "runtime/device_memory_peak.h"

#include <algorithm>

namespace flex {

void DeviceMemoryPeak::sample() {
  peak_bytes_ = std::max(peak_bytes_, free_before_ - device_memory(device_).free_bytes);
}

}  // namespace flex
