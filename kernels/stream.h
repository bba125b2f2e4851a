#pragma once

#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "kernels/device.h"
#include "kernels/event.h"

namespace flex {

/// A piece of host work, stored in place so that queueing it allocates nothing.
class HostTask {
 public:
  static constexpr std::size_t kCapacityBytes = 1536;

  HostTask() = default;
  template <class F>
  // NOLINTNEXTLINE(bugprone-forwarding-reference-overload): the constraint keeps moves out
  requires(!std::is_same_v<std::decay_t<F>, HostTask>) explicit HostTask(F&& function) {
    using Stored = std::decay_t<F>;
    static_assert(sizeof(Stored) <= kCapacityBytes, "capture fewer or smaller views");
    static_assert(std::is_nothrow_move_constructible_v<Stored>);
    ::new (static_cast<void*>(storage_)) Stored(std::forward<F>(function));
    run_ = [](void* stored) { (*static_cast<Stored*>(stored))(); };
    relocate_ = [](void* from, void* to) {
      if (to != nullptr) ::new (to) Stored(std::move(*static_cast<Stored*>(from)));
      static_cast<Stored*>(from)->~Stored();
    };
  }
  HostTask(HostTask&& other) noexcept { take(other); }
  HostTask& operator=(HostTask&& other) noexcept {
    if (this != &other) {
      reset();
      take(other);
    }
    return *this;
  }
  HostTask(const HostTask&) = delete;
  HostTask& operator=(const HostTask&) = delete;
  ~HostTask() { reset(); }

  void operator()() { run_(storage_); }

 private:
  void take(HostTask& other) noexcept {
    if (other.relocate_ != nullptr) other.relocate_(other.storage_, storage_);
    run_ = std::exchange(other.run_, nullptr);
    relocate_ = std::exchange(other.relocate_, nullptr);
  }
  void reset() noexcept {
    if (relocate_ != nullptr) relocate_(storage_, nullptr);
    run_ = nullptr;
    relocate_ = nullptr;
  }

  alignas(std::max_align_t) std::byte storage_[kCapacityBytes];
  void (*run_)(void*) = nullptr;
  void (*relocate_)(void*, void*) = nullptr;
};

/// In-order queue of work on one device. On CUDA it is a cudaStream_t (owned or borrowed); on the CPU it is a
/// worker thread with a queue, so that overlap and races are as real there as on a GPU. Work that is queued
/// may run after the call returns: what it reads and writes must live until then. Calls on one Stream object
/// come from one thread at a time.
class Stream {
 public:
  /// A new stream of `device`. @throws DeviceError.
  explicit Stream(Device device);
  /// Wraps the caller's cudaStream_t, which must outlive this object and is never destroyed by it.
  [[nodiscard]] static Stream borrow(Device device, void* cuda_stream);
  /// Waits for the queued work; failures that nobody asked for are logged.
  ~Stream();
  Stream(Stream&&) noexcept;
  Stream& operator=(Stream&&) noexcept;
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  [[nodiscard]] Device device() const;
  /// The cudaStream_t, or null on the CPU.
  [[nodiscard]] void* native() const;

  /// Queues host work on a CPU stream. If it throws, the stream has failed: later work is skipped, events
  /// that it records pass the failure on, and the next synchronize_blocking() rethrows it.
  template <class F>
  void enqueue(F&& function) {
    push(HostTask(std::forward<F>(function)));
  }

  /// Queues function(std::exception_ptr) to run only if the stream has failed by then, e.g. to tell peers.
  /// CPU streams only.
  template <class F>
  void enqueue_on_failure(F&& function) {
    push_on_failure(HostTask([impl = impl_.get(), function = std::forward<F>(function)]() mutable {
      function(failure_of(*impl));
    }));
  }

  /// Marks the end of the work queued so far.
  void record(Event& event);
  /// Work queued later runs only after the event's last recorded point. Does not block the host.
  void wait(const Event& event);
  /// Blocks the host until all queued work is done, and rethrows the first failure, which it clears.
  void synchronize_blocking();

 private:
  struct Impl;
  explicit Stream(std::unique_ptr<Impl> impl);
  void push(HostTask task);
  void push_on_failure(HostTask task);
  static std::exception_ptr failure_of(Impl& impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace flex
