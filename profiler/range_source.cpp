#include "profiler/range_source.h"

#include "base/log.h"
#include "profiler/cupti_library.h"
#include "profiler/cupti_source.h"
#include "profiler/mark_ranges.h"

#ifdef FLEX_HAS_CUDA
#include "profiler/cupti_sentinel.h"
#endif

namespace flex {
namespace {

// Empty where there is no kernel to run.
std::function<void()> sentinel_of(Device device) {
#ifdef FLEX_HAS_CUDA
  if (device.is_cuda()) return [device] { run_cupti_sentinel_blocking(device); };
#endif
  static_cast<void>(device);
  return {};
}

}  // namespace

std::unique_ptr<RangeSource> make_range_source(Device device, RangeClock clock, int rank, int local_rank) {
  require_usable(device);
  if (clock == RangeClock::kMarks) return std::make_unique<MarkRanges>(device);
  auto sentinel = sentinel_of(device);
  if (sentinel == nullptr) {
    log_warning("profiler: CUPTI sees no work of {}; using the host's clock", to_string(device));
    return std::make_unique<MarkRanges>(device);
  }
  const auto loaded = load_cupti();
  if (const auto* const reason = std::get_if<std::string>(&loaded)) {
    log_warning("profiler: {}; using CUDA events", *reason);
    return std::make_unique<MarkRanges>(device);
  }
  return make_cupti_source(*std::get<const cupti::Api*>(loaded), {.sentinel = std::move(sentinel)}, device,
                           rank, local_rank);
}

}  // namespace flex
