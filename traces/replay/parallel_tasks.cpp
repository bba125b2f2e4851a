#include "traces/replay/parallel_tasks.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace flex {
namespace {

/// The error of the task that comes first, whichever thread was faster.
class FirstError {
 public:
  void note(std::size_t index, std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    if (error_ && index_ < index) return;
    index_ = index;
    error_ = std::move(error);
  }
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  std::mutex mutex_;
  std::size_t index_ = 0;
  std::exception_ptr error_;
};

}  // namespace

void run_tasks(std::size_t num_tasks, int num_workers,
               const std::function<void(std::size_t index, int worker)>& task) {
  std::atomic<std::size_t> next = 0;
  FirstError first_error;
  const auto work = [&](int worker) {
    for (std::size_t index = next++; index < num_tasks; index = next++) {
      try {
        task(index, worker);
      } catch (...) {
        first_error.note(index, std::current_exception());
        next = num_tasks;
      }
    }
  };
  {
    std::vector<std::jthread> threads;
    const auto useful =
        static_cast<int>(std::min<std::size_t>(num_tasks, static_cast<std::size_t>(num_workers)));
    for (int worker = 1; worker < useful; ++worker) threads.emplace_back(work, worker);
    work(0);
  }
  first_error.rethrow();
}

}  // namespace flex
