#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/event.h"
#include "runtime/control_member.h"
#include "runtime/nccl_comm.h"

namespace flex {

/// A collective on the device, from its call until its stream has done it.
struct NcclOperation {
  explicit NcclOperation(Device device) : begin(device), end(device) {}

  Event begin;  ///< the stream has come to it
  Event end;
  std::uint64_t ticket = 0;  ///< in the flight record
  CallId id;
  std::atomic<bool> queued{false};  ///< `end` is recorded
  bool entered = false;             ///< the rest is the watching thread's
  SteadyTime entered_at;
  int num_deadlines = 0;  ///< that it has run into
};

/// What all groups of one NCCL world share in a process. A thread watches over what is queued on the device:
/// an operation that a stream has begun and not done within the deadline is reported to the hub, which knows
/// who is missing; an error of NCCL in the background fails the world. When the world has failed, whoever
/// found it, the thread prints the flight record and aborts all communicators, so that the device is free. A
/// process that holds its world 5 s longer is ended: a job never hangs.
class NcclWorld : public ControlWorld {
 public:
  static constexpr std::chrono::milliseconds kAbortGrace{5000};
  /// Deadlines that an operation may take to which all ranks have come, since data may move for long.
  static constexpr int kMostDeadlines = 10;

  NcclWorld(JoinOptions options, int ranks_per_node, Device device, FileDescriptor listener);
  ~NcclWorld();
  NcclWorld(const NcclWorld&) = delete;
  NcclWorld& operator=(const NcclWorld&) = delete;

  [[nodiscard]] Device device() const { return device_; }
  /// From now on the world aborts it when it fails.
  [[nodiscard]] std::shared_ptr<NcclComm> adopt(std::unique_ptr<NcclComm> comm);
  /// Its group is gone: ends it in good order, in the background.
  void retire(const std::shared_ptr<NcclComm>& comm) noexcept;

  /// An operation whose `begin` is to be recorded before watch().
  [[nodiscard]] std::unique_ptr<NcclOperation> new_operation();
  /// It lives on at least until its `end` is recorded, `queued`, and reached.
  [[nodiscard]] NcclOperation& watch(std::unique_ptr<NcclOperation> operation);

 private:
  void run(const std::stop_token& stop);
  void look(SteadyTime now);
  /// @return true once it is done.
  [[nodiscard]] bool look_at(NcclOperation& operation, SteadyTime now);
  void look_for_errors();
  void sweep_retired() noexcept;
  void end_after_failure(const std::stop_token& stop);
  void abort_all() noexcept;
  void finish_all() noexcept;

  Device device_;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::vector<std::shared_ptr<NcclComm>> comms_;
  std::vector<std::shared_ptr<NcclComm>> retired_;
  std::vector<std::unique_ptr<NcclOperation>> watched_;  ///< in the order of their calls
  std::vector<std::unique_ptr<NcclOperation>> idle_;
  std::jthread watcher_;  // last: it uses the rest
};

}  // namespace flex
