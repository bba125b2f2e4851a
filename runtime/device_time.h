#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace flex {

/// A piece of work of one rank in one of its streams; its times are nanoseconds on one clock.
struct DeviceWork {
  std::int64_t ready_ns = 0;  ///< nothing of its rank has to come before it any more
  std::int64_t begin_ns = 0;  ///< at least ready_ns
  std::int64_t end_ns = 0;    ///< at least begin_ns
};

/// Divides the time of a device among the pieces of work of all ranks that share it, in nanoseconds by piece.
///
/// At each moment it belongs in equal parts to those under way; if there are none, to those that are ready:
/// what it takes to start is part of a piece. So the sum is the time in which any piece was ready or under
/// way, each moment once, whichever order the device runs them in. A piece that waits while another rank's
/// runs gets nothing of that. Alone it gets end_ns - ready_ns.
[[nodiscard]] std::vector<double> divide_device_time(std::span<const DeviceWork> work);

}  // namespace flex
