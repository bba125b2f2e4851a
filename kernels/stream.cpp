#include "kernels/stream.h"

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "base/log.h"
#include "base/require.h"

#ifdef FLEX_HAS_CUDA
#include "kernels/cuda_check.h"
#endif

namespace flex {

// On the CPU: `recorded` counts record() calls, `completed` the ones whose stream has come that far. A waiter
// remembers `recorded` when it is queued, so that a later record() does not make it wait longer (CUDA's
// rule). Two streams that record one event may come there in either order; what is ahead is kept apart.
struct Event::Impl {
  Device device;
  std::mutex mutex;
  std::condition_variable changed;
  std::uint64_t recorded = 0;
  std::uint64_t completed = 0;       // this record and all before it
  std::vector<std::uint64_t> ahead;  // completed ones after a record that is not
  std::uint64_t first_failed = 0;    // the latest unbroken run of records of failed streams,
  std::uint64_t last_failed = 0;     // for waiters that come to it after a later, healthy record
  std::exception_ptr failure;
  void* native = nullptr;

#ifdef FLEX_HAS_CUDA
  ~Impl() {
    if (native == nullptr) return;
    const cudaError_t status = cudaEventDestroy(static_cast<cudaEvent_t>(native));
    if (status == cudaSuccess || status == cudaErrorCudartUnloading) return;
    log_error("event on {} not destroyed: {}", to_string(device), cudaGetErrorString(status));
  }
#endif

  [[nodiscard]] bool reached(std::uint64_t generation) const {
    return generation <= completed || std::ranges::find(ahead, generation) != ahead.end();
  }
  void complete(std::uint64_t generation, const std::exception_ptr& stream_failure) {
    const std::lock_guard lock(mutex);
    if (generation == completed + 1) {
      ++completed;
      while (std::erase(ahead, completed + 1) > 0) ++completed;
    } else {
      ahead.push_back(generation);
    }
    if (stream_failure) {
      if (!failure || generation != last_failed + 1) first_failed = generation;
      last_failed = generation;
      failure = stream_failure;
    }
    changed.notify_all();  // under the lock: who waited may destroy the event as soon as it has the lock
  }
  void await(std::uint64_t generation) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return reached(generation); });
    if (failure && first_failed <= generation && generation <= last_failed) std::rethrow_exception(failure);
  }
  std::uint64_t generation() {
    const std::lock_guard lock(mutex);
    return recorded;
  }
};

Event::Event(Device device) : impl_(std::make_shared<Impl>()) {
  require_usable(device);
  impl_->device = device;
#ifdef FLEX_HAS_CUDA
  if (device.is_cuda()) {
    cudaEvent_t event = nullptr;
    FLEX_CUDA_CHECK(cudaSetDevice(device.index));
    FLEX_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    impl_->native = event;
  }
#endif
}

Event::~Event() = default;
Event::Event(Event&&) noexcept = default;
Event& Event::operator=(Event&&) noexcept = default;

void Event::wait_blocking() const {
#ifdef FLEX_HAS_CUDA
  if (impl_->device.is_cuda()) {
    FLEX_CUDA_CHECK(cudaEventSynchronize(static_cast<cudaEvent_t>(impl_->native)));
    return;
  }
#endif
  impl_->await(impl_->generation());
}

bool Event::done() const {
#ifdef FLEX_HAS_CUDA
  if (impl_->device.is_cuda()) {
    const cudaError_t status = cudaEventQuery(static_cast<cudaEvent_t>(impl_->native));
    if (status == cudaErrorNotReady) return false;
    FLEX_CUDA_CHECK(status);
    return true;
  }
#endif
  const std::lock_guard lock(impl_->mutex);
  return impl_->reached(impl_->recorded);
}

void* Event::native() const { return impl_->native; }

// A worker thread that runs a ring of tasks in order. The ring grows when it is full: blocking instead could
// deadlock, since the task at its head may wait for an event that the blocked thread has yet to record.
struct Stream::Impl {
  enum class When : std::uint8_t {
    kHealthy,  // skipped once the stream has failed
    kAlways,   // on a failed stream too: events must pass the failure on
    kFailed,   // only on a failed stream
  };
  struct Entry {
    HostTask task;
    When when = When::kHealthy;
  };

  Device device;
  void* native = nullptr;
  bool owned = false;

  std::mutex mutex;
  std::condition_variable work;
  std::condition_variable idle;
  std::vector<Entry> ring;
  std::size_t head = 0;
  std::size_t size = 0;
  bool running = false;
  bool stopping = false;
  std::exception_ptr failure;
  std::thread worker;

  ~Impl() {
    if (device.is_cpu()) {
      stop_worker();
    } else {
      destroy_native();
    }
  }

  void start_worker() {
    constexpr std::size_t kInitialTasks = 256;
    ring.resize(kInitialTasks);
    worker = std::thread([this] { run_tasks(); });
  }

  void stop_worker() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    work.notify_one();
    if (worker.joinable()) worker.join();
    if (!failure) return;
    try {
      std::rethrow_exception(failure);
    } catch (const std::exception& error) {
      log_debug("a stream ended with a failure that was not asked for: {}", error.what());
    } catch (...) {
      log_debug("a stream ended with a failure that was not asked for, of a type that is no exception");
    }
  }

  void destroy_native() const {
#ifdef FLEX_HAS_CUDA
    if (!owned || native == nullptr) return;
    const cudaError_t status = cudaStreamDestroy(static_cast<cudaStream_t>(native));
    if (status == cudaSuccess || status == cudaErrorCudartUnloading)
      return;  // the process is exiting: no news
    log_error("stream on {} not destroyed: {}", to_string(device), cudaGetErrorString(status));
#endif
  }

  void push(HostTask task, When when) {
    {
      const std::lock_guard lock(mutex);
      if (size == ring.size()) grow();
      Entry& entry = ring[(head + size) % ring.size()];
      entry.task = std::move(task);
      entry.when = when;
      ++size;
    }
    work.notify_one();
  }

  void grow() {
    std::vector<Entry> larger(ring.size() * 2);
    for (std::size_t i = 0; i < size; ++i) larger[i] = std::move(ring[(head + i) % ring.size()]);
    ring = std::move(larger);
    head = 0;
  }

  void run_tasks() {
    std::unique_lock lock(mutex);
    while (true) {
      work.wait(lock, [&] { return size > 0 || stopping; });
      if (size == 0) return;
      std::exception_ptr thrown;
      {
        Entry entry = std::move(ring[head]);
        head = (head + 1) % ring.size();
        --size;
        running = true;
        const bool skipped =
            entry.when != When::kAlways && (failure != nullptr) != (entry.when == When::kFailed);
        lock.unlock();
        try {
          if (!skipped) entry.task();
        } catch (...) {
          thrown = std::current_exception();
        }
      }
      lock.lock();
      if (thrown && !failure) failure = thrown;
      running = false;
      if (size == 0) idle.notify_all();
    }
  }

  [[nodiscard]] std::exception_ptr current_failure() {
    const std::lock_guard lock(mutex);
    return failure;
  }

  void drain() {
    std::unique_lock lock(mutex);
    idle.wait(lock, [&] { return size == 0 && !running; });
    if (!failure) return;
    const std::exception_ptr thrown = std::exchange(failure, nullptr);
    lock.unlock();
    std::rethrow_exception(thrown);
  }
};

Stream::Stream(Device device) : impl_(std::make_unique<Impl>()) {
  require_usable(device);
  impl_->device = device;
  impl_->owned = true;
  if (device.is_cpu()) impl_->start_worker();
#ifdef FLEX_HAS_CUDA
  if (device.is_cuda()) {
    cudaStream_t stream = nullptr;
    FLEX_CUDA_CHECK(cudaSetDevice(device.index));
    FLEX_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    impl_->native = stream;
  }
#endif
}

Stream::Stream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Stream Stream::borrow(Device device, void* cuda_stream) {
  require_usable(device);
  require(device.is_cuda(),
          "Stream::borrow takes a CUDA stream; a CPU stream is made by Stream(Device::cpu())");
  auto impl = std::make_unique<Impl>();
  impl->device = device;
  impl->native = cuda_stream;
  return Stream(std::move(impl));
}

Stream::~Stream() = default;
Stream::Stream(Stream&&) noexcept = default;
Stream& Stream::operator=(Stream&&) noexcept = default;

Device Stream::device() const { return impl_->device; }
void* Stream::native() const { return impl_->native; }

void Stream::push(HostTask task) {
  require(impl_->device.is_cpu(), "Stream::enqueue: host work goes to a CPU stream, this one is on {}",
          to_string(impl_->device));
  impl_->push(std::move(task), Impl::When::kHealthy);
}

void Stream::push_on_failure(HostTask task) {
  require(impl_->device.is_cpu(), "Stream::enqueue_on_failure: only a CPU stream knows its failures");
  impl_->push(std::move(task), Impl::When::kFailed);
}

std::exception_ptr Stream::failure_of(Impl& impl) { return impl.current_failure(); }

void Stream::record(Event& event) {
  const std::shared_ptr<Event::Impl> target = event.impl_;
  require(target->device == impl_->device, "an event of {} cannot be recorded on a stream of {}",
          to_string(target->device), to_string(impl_->device));
#ifdef FLEX_HAS_CUDA
  if (impl_->device.is_cuda()) {
    FLEX_CUDA_CHECK(
        cudaEventRecord(static_cast<cudaEvent_t>(target->native), static_cast<cudaStream_t>(impl_->native)));
    return;
  }
#endif
  std::uint64_t generation = 0;
  {
    const std::lock_guard lock(target->mutex);
    generation = ++target->recorded;
  }
  impl_->push(HostTask([impl = impl_.get(), target, generation] {
                target->complete(generation, impl->current_failure());
              }),
              Impl::When::kAlways);
}

void Stream::wait(const Event& event) {
  const std::shared_ptr<Event::Impl> source = event.impl_;
  require(source->device.kind == impl_->device.kind, "a stream of {} cannot wait for an event of {}",
          to_string(impl_->device), to_string(source->device));
#ifdef FLEX_HAS_CUDA
  if (impl_->device.is_cuda()) {
    FLEX_CUDA_CHECK(cudaStreamWaitEvent(static_cast<cudaStream_t>(impl_->native),
                                        static_cast<cudaEvent_t>(source->native), 0));
    return;
  }
#endif
  const std::uint64_t generation = source->generation();
  impl_->push(HostTask([source, generation] { source->await(generation); }), Impl::When::kHealthy);
}

void Stream::synchronize_blocking() {
#ifdef FLEX_HAS_CUDA
  if (impl_->device.is_cuda()) {
    FLEX_CUDA_CHECK(cudaStreamSynchronize(static_cast<cudaStream_t>(impl_->native)));
    return;
  }
#endif
  impl_->drain();
}

}  // namespace flex
