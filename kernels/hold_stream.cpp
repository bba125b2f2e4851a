#include "kernels/hold_stream.h"

#include <chrono>
#include <thread>

#include "base/require.h"

namespace flex {

void hold_stream(Stream& stream, double us) {
  constexpr double kMostUs = 1e6;
  require(us >= 0 && us <= kMostUs, "a stream held for {} us; it is at least 0 and at most {:g}", us,
          kMostUs);
  if (stream.device().is_cpu()) {
    return stream.enqueue(
        [us] { std::this_thread::sleep_for(std::chrono::duration<double, std::micro>(us)); });
  }
#ifdef FLEX_HAS_CUDA
  hold_stream_cuda(stream, us);
#endif
}

}  // namespace flex
