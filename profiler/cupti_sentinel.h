#pragma once

#include "kernels/device.h"

namespace flex {

/// Runs a kernel that does nothing on a stream of its own and waits for it. @throws DeviceError.
void run_cupti_sentinel_blocking(Device device);

}  // namespace flex
