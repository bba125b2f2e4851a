#include "profiler/mark_source.h"

#include <chrono>

#include "profiler/host_source.h"

#ifdef FLEX_HAS_CUDA
#include "profiler/event_source.h"
#endif

namespace flex {

std::int64_t steady_now_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

std::unique_ptr<MarkSource> make_mark_source(Device device) {
  require_usable(device);
#ifdef FLEX_HAS_CUDA
  if (device.is_cuda()) return std::make_unique<EventSource>(device);
#endif
  return std::make_unique<HostSource>();
}

}  // namespace flex
