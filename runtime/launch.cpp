#include "runtime/launch.h"

#include <fmt/format.h>

#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "base/error.h"
#include "runtime/local_communicator.h"

namespace flex {
namespace {

/// Keeps the exception that explains a failed run best.
class RootCause {
 public:
  void offer(std::exception_ptr failure, bool is_comm_error) {
    const std::lock_guard lock(mutex_);
    if (failure_ != nullptr && (is_comm_error || !echo_)) return;
    failure_ = std::move(failure);
    echo_ = is_comm_error;
  }
  void rethrow_if_any() const {
    if (failure_ != nullptr) std::rethrow_exception(failure_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr failure_;
  bool echo_ = false;  ///< failure_ is a CommError
};

void run_rank(Communicator& communicator, const std::function<void(Communicator&)>& body, RootCause& cause) {
  const auto failed = [&](bool is_comm_error, const char* message) {
    cause.offer(std::current_exception(), is_comm_error);
    communicator.abort(fmt::format("rank {} failed: {}", communicator.rank(), message));
  };
  try {
    body(communicator);
  } catch (const CommError& error) {
    failed(true, error.what());
  } catch (const std::exception& error) {
    failed(false, error.what());
  } catch (...) {
    failed(false, "an exception that is not a std::exception");
  }
}

}  // namespace

void run_ranks(const Topology& topology, std::chrono::milliseconds deadline,
               const std::function<void(Communicator&)>& body) {
  const auto communicators = make_local_world(topology, deadline);
  RootCause cause;
  std::vector<std::jthread> threads;  // joined on every way out
  threads.reserve(communicators.size());
  try {
    for (const auto& communicator : communicators) {
      threads.emplace_back([&body, &cause, &rank = *communicator] { run_rank(rank, body, cause); });
    }
  } catch (const std::exception& error) {
    communicators.front()->abort(
        fmt::format("rank {} could not be started: {}", threads.size(), error.what()));
    throw;
  }
  for (std::jthread& thread : threads) thread.join();
  cause.rethrow_if_any();
}

}  // namespace flex
