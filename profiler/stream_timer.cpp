#include "profiler/stream_timer.h"

#include <chrono>

#ifdef FLEX_HAS_CUDA
#include "kernels/cuda_check.h"
#endif

namespace flex {

struct StreamTimer::Impl {
  using Clock = std::chrono::steady_clock;

  explicit Impl(Device device) : stopped(device) {
#ifdef FLEX_HAS_CUDA
    if (device.is_cuda()) {
      FLEX_CUDA_CHECK(cudaEventCreate(&begin));
      FLEX_CUDA_CHECK(cudaEventCreate(&end));
    }
#endif
  }
  ~Impl() {
#ifdef FLEX_HAS_CUDA
    if (begin != nullptr) static_cast<void>(cudaEventDestroy(begin));
    if (end != nullptr) static_cast<void>(cudaEventDestroy(end));
#endif
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

#ifdef FLEX_HAS_CUDA
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
#endif
  Clock::time_point start_time;  // written by the stream's worker, read after `stopped`
  Clock::time_point stop_time;
  Event stopped;
};

StreamTimer::StreamTimer(Device device) : impl_(std::make_shared<Impl>(device)) {}
StreamTimer::~StreamTimer() = default;
StreamTimer::StreamTimer(StreamTimer&&) noexcept = default;
StreamTimer& StreamTimer::operator=(StreamTimer&&) noexcept = default;

void StreamTimer::start(Stream& stream) {
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) {
    FLEX_CUDA_CHECK(cudaEventRecord(impl_->begin, static_cast<cudaStream_t>(stream.native())));
    return;
  }
#endif
  stream.enqueue([impl = impl_] { impl->start_time = Impl::Clock::now(); });
}

void StreamTimer::stop(Stream& stream) {
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) {
    FLEX_CUDA_CHECK(cudaEventRecord(impl_->end, static_cast<cudaStream_t>(stream.native())));
    return;
  }
#endif
  stream.enqueue([impl = impl_] { impl->stop_time = Impl::Clock::now(); });
  stream.record(impl_->stopped);
}

double StreamTimer::elapsed_us_blocking() const {
#ifdef FLEX_HAS_CUDA
  if (impl_->begin != nullptr) {
    FLEX_CUDA_CHECK(cudaEventSynchronize(impl_->end));
    float elapsed_ms = 0;
    FLEX_CUDA_CHECK(cudaEventElapsedTime(&elapsed_ms, impl_->begin, impl_->end));
    return static_cast<double>(elapsed_ms) * 1e3;
  }
#endif
  impl_->stopped.wait_blocking();
  return std::chrono::duration<double, std::micro>(impl_->stop_time - impl_->start_time).count();
}

}  // namespace flex
