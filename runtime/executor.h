#pragma once

#include <memory>
#include <vector>

#include "costmodel/schedule.h"
#include "kernels/event.h"
#include "kernels/stream.h"

namespace flex {

/// What operations do. The executor decides when and where.
class OperationRunner {
 public:
  virtual ~OperationRunner() = default;
  /// Queues the operation's work on `stream`, or does it in place for StreamKind::kHost (then it may block).
  virtual void run(const Operation& operation, Stream& stream) = 0;
};

/// Sees every operation before and after its work is queued; for profiling and tests. Called on the thread
/// that issues.
class ExecutionObserver {
 public:
  virtual ~ExecutionObserver() = default;
  virtual void before(const Schedule& schedule, std::size_t index, Stream& stream) = 0;
  virtual void after(const Schedule& schedule, std::size_t index, Stream& stream) = 0;
};

/// Runs schedules on real streams: compute on the caller's stream, communication on its own. It takes order,
/// streams and dependencies from the schedule and adds none, except at the borders: communication starts
/// after what the compute stream held before, and the compute stream goes on after the last communication, so
/// that to its owner a pass is one piece of work. Allocates nothing once it has run as many operations.
class Executor {
 public:
  explicit Executor(Device device);

  /// Queues the whole schedule; blocks only in its host operations. What `runner` throws leaves at once; work
  /// that was queued before stays queued. The runner's data must live until the streams are done.
  void run(const Schedule& schedule, Stream& compute, OperationRunner& runner);

  /// Nullptr: none. Must outlive the runs.
  void set_observer(ExecutionObserver* observer) { observer_ = observer; }
  [[nodiscard]] bool observed() const { return observer_ != nullptr; }
  [[nodiscard]] Stream& communication() { return communication_; }

 private:
  void wait_for(const Operation& operation, Stream& compute);
  [[nodiscard]] Stream& stream_of(StreamKind kind, Stream& compute);

  Device device_;
  std::vector<Event> done_;  // by operation index
  std::vector<char> awaited_;
  Event border_;
  Stream communication_;  // declared after the events: its worker ends before they do
  ExecutionObserver* observer_ = nullptr;
};

}  // namespace flex
