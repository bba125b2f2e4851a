#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "runtime/collective_call.h"

namespace flex {

/// One rank's membership of one group, for communicators that run collectives on host threads. A Communicator
/// of make_communicator() turns its calls into CollectiveCalls, queues them, and runs them here; calls for
/// CUDA buffers it hands over at once.
class CollectiveEngine {
 public:
  virtual ~CollectiveEngine() = default;

  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual std::span<const int> world_ranks() const = 0;
  [[nodiscard]] virtual std::string description() const = 0;
  [[nodiscard]] virtual std::string transport() const = 0;
  [[nodiscard]] virtual std::chrono::milliseconds deadline() const = 0;
  [[nodiscard]] virtual TrafficCounters& counters() = 0;

  /// Draws the number of the next collective that this rank calls. Collectives are matched by it, not by when
  /// they run, so that several streams may be inside different collectives of one group.
  [[nodiscard]] virtual std::uint64_t draw_number() = 0;
  /// Runs a collective on CPU buffers in the calling thread, until the caller may reuse them. @throws
  /// CommError.
  virtual void run(std::uint64_t number, const CollectiveCall& call) = 0;
  /// True if issue() takes CUDA buffers.
  [[nodiscard]] virtual bool takes_cuda() const { return false; }
  /// Queues a collective on CUDA buffers on the CUDA stream `stream`, from the calling thread, and draws its
  /// number. May block until the peers have made the call. @throws CommError, DeviceError; InputError before
  /// a number was drawn.
  virtual void issue(const CollectiveCall& call, Stream& stream);
  [[nodiscard]] virtual std::shared_ptr<CollectiveEngine> split(int color, int key) = 0;

  virtual void abort(const std::string& reason) noexcept = 0;
  [[nodiscard]] virtual bool aborted() const = 0;
};

/// A communicator over `engine`. Its queued work keeps the engine alive. A collective that is dropped unrun,
/// because its stream has failed, aborts the world: the peers could wait for it in vain.
[[nodiscard]] std::unique_ptr<Communicator> make_communicator(std::shared_ptr<CollectiveEngine> engine);

}  // namespace flex
