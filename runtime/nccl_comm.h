#pragma once

#include <nccl.h>

#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

#include "kernels/device.h"
#include "runtime/control_channel.h"
#include "runtime/nccl_communicator.h"

namespace flex {

/// One non-blocking NCCL communicator of this process. Every call returns at once or is polled, so that it
/// ends when the world fails; NCCL wants one caller at a time, and gets one.
class NcclComm {
 public:
  /// What is done when a call has run into the deadline, e.g. fail the world.
  using OnDeadline = std::function<void()>;

  /// All `world` ranks with the same id, rank 0's. Collective and blocking; the calling thread's device is
  /// the communicator's. @throws CommError.
  NcclComm(ControlChannel& channel, const ncclUniqueId& id);
  /// Takes over `comm`, which is ready.
  NcclComm(ControlChannel& channel, ncclComm_t comm) : channel_(channel), comm_(comm) {}
  /// finish() or abort() comes before.
  ~NcclComm() = default;
  NcclComm(const NcclComm&) = delete;
  NcclComm& operator=(const NcclComm&) = delete;

  /// Makes `calls(comm)`, calls of NCCL for a stream, as one group, and returns when they are queued there.
  /// `what` names them in errors. @throws CommError.
  void group(std::string_view what, const std::function<void(ncclComm_t)>& calls);
  /// The ranks with equal color, ordered by key; null for NCCL_SPLIT_NOCOLOR. Collective and blocking;
  /// nothing may be under way. @throws CommError.
  [[nodiscard]] std::unique_ptr<NcclComm> split(int color, int key);
  /// What has failed in the background; empty if nothing has. For a watching thread.
  [[nodiscard]] std::string failure();

  /// Begins to end it in good order: in the background, when all its ranks have begun.
  void begin_finish() noexcept;
  /// True once that is done, and the communicator is gone.
  [[nodiscard]] bool finished() noexcept;
  /// Ends it at once, with what it does on the device. Blocks; communicators of one device must be aborted by
  /// one thread each, because each waits for the device, and so for the others.
  void abort() noexcept;

 private:
  void await(std::unique_lock<std::timed_mutex>& lock, std::string_view what, const OnDeadline& on_deadline);
  void check(ncclResult_t result, std::string_view what) const;

  ControlChannel& channel_;
  std::timed_mutex mutex_;
  ncclComm_t comm_ = nullptr;  ///< null once it is gone
};

/// The rest of `comm`'s life in the user's hands: a communicator of the same ranks for Flex alone.
[[nodiscard]] ncclComm_t duplicate_blocking(ncclComm_t comm, int rank, std::chrono::milliseconds deadline);

/// Rank 0's bytes on all ranks, by way of the device. @throws CommError.
void broadcast_bytes_blocking(ncclComm_t comm, void* bytes, std::size_t count, Device device,
                              std::chrono::milliseconds deadline);

/// @throws CommError with NCCL's text unless the result is success or in progress.
void check_nccl(ncclResult_t result, std::string_view what, ncclComm_t comm = nullptr);

}  // namespace flex
