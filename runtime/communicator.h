#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "costmodel/topology.h"
#include "costmodel/traffic.h"
#include "kernels/stream.h"
#include "kernels/tensor.h"

namespace flex {

/// Payload bytes that one rank sent or gathered, the own chunk included, by purpose and peer (world rank).
/// A chunk counts where it leaves (all_to_all, reduce_scatter) or where it arrives (all_gather,
/// gather_host_blocking, and broadcast, where the root counts nothing); an all_reduce counts its buffer once,
/// at the own rank; split() counts nothing. Shared by a communicator and all that were split off it. Counted
/// as a collective completes on a CPU stream, or as its call returns on a CUDA stream, from any stream.
class TrafficCounters {
 public:
  TrafficCounters(Topology topology, int world_rank);
  void add(Traffic traffic, int peer, std::int64_t bytes);
  void reset();
  [[nodiscard]] std::int64_t bytes(Traffic traffic, int peer) const;
  [[nodiscard]] std::int64_t bytes(Traffic traffic) const;
  [[nodiscard]] std::int64_t bytes(Traffic traffic, LinkClass link) const;
  /// Messages with a payload, to or from `peer`.
  [[nodiscard]] std::int64_t messages(Traffic traffic, int peer) const;
  [[nodiscard]] const Topology& topology() const { return topology_; }

 private:
  Topology topology_;
  int world_rank_;
  struct Cell {
    std::atomic<std::int64_t> bytes{0};
    std::atomic<std::int64_t> messages{0};
  };
  [[nodiscard]] Cell& cell(Traffic traffic, int peer);
  [[nodiscard]] const Cell& cell(Traffic traffic, int peer) const;
  std::vector<Cell> cells_;  // (kNumTraffic, world)
};

enum class ReduceOp : std::uint8_t { kSum, kMax };

/// Place of the piece for `peer` in a send buffer where one piece serves the group / parts ranks of a group
/// that get a copy of it. Equal values: place `peer`.
[[nodiscard]] constexpr std::int64_t shared_place(std::int64_t peer, std::int64_t group, std::int64_t parts) {
  return peer / group * parts + peer % group % parts;
}

/// Equal exchange: peer p gets `bytes_per_peer` from place shared_place(p, group, parts) of `send`, counted
/// in pieces of that size, and what peer p sent here arrives at place p of `recv`.
struct AllToAllArgs {
  const void* send = nullptr;
  void* recv = nullptr;
  std::int64_t bytes_per_peer = 0;
  std::int64_t group = 1;  ///< divides the number of ranks
  std::int64_t parts = 1;  ///< divides group
  Traffic traffic = Traffic::kOther;
};

/// Ragged exchange; all spans have size() entries. Both sides of a pair must agree on its bytes.
struct RaggedAllToAllArgs {
  const void* send = nullptr;
  std::span<const std::int64_t> send_bytes;
  std::span<const std::int64_t> send_offset_bytes;
  void* recv = nullptr;
  std::span<const std::int64_t> recv_bytes;
  std::span<const std::int64_t> recv_offset_bytes;
  Traffic traffic = Traffic::kOther;
};

/// A group of ranks and the collectives among them.
///
/// Collectives are queued on `stream` (as kernels are) and may return before they are done; buffers lie on
/// the stream's device and must live until then, and so must the spans, whose numbers are final when the call
/// is made. Every rank makes the same calls on one communicator in the same order, whatever streams they are
/// queued on and whenever they run there; two communicators are independent of each other. `send` and `recv`
/// do not overlap, except that an all_gather's `send` may be the own piece of `recv`, and a reduce_scatter's
/// `recv` the own piece of `send`. Sums are taken in rank order, so that every rank, and every implementation
/// on the CPU, gets equal bits; fp32 is summed in fp32 and fp64 in fp64, fp16 and bf16 in fp32.
///
/// Failure: a collective for which a peer has not arrived within deadline() after this rank entered it, whose
/// ranks disagree, or whose group was aborted, fails with a CommError that names the missing or failed rank
/// (world rank) and the operation. Data then moves for as long as it makes progress. On a CPU stream the
/// failure is the stream's (rethrown by its synchronize_blocking()), and a collective that a failed stream
/// skips aborts the world, since peers would wait for it in vain. On a CUDA stream of in-process ranks the
/// call itself fails: there the host threads of the ranks meet when the call is made, the device never waits
/// for the host and the host never waits for the device. After a failure the group, and all groups
/// of the same world, only fail: there is no recovery. Arguments that cannot be throw InputError at the call.
class Communicator {
 public:
  virtual ~Communicator() = default;

  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int size() const = 0;
  /// World ranks of the members, in the order of their ranks here.
  [[nodiscard]] virtual std::span<const int> world_ranks() const = 0;
  [[nodiscard]] virtual std::string description() const = 0;  ///< e.g. `in-process, 4 ranks`
  /// What moves the bytes, with its version: `in-process`, `Open MPI v4.1.4`.
  [[nodiscard]] virtual std::string transport() const = 0;

  virtual void all_to_all(const AllToAllArgs& args, Stream& stream) = 0;
  virtual void ragged_all_to_all(const RaggedAllToAllArgs& args, Stream& stream) = 0;
  /// recv (size() * bytes_per_rank): rank p's `send` at p * bytes_per_rank.
  virtual void all_gather(const void* send, void* recv, std::int64_t bytes_per_rank, Traffic traffic,
                          Stream& stream) = 0;
  /// send (size() * count), recv (count): the sum over ranks of piece rank(). Floating types only.
  virtual void reduce_scatter(const void* send, void* recv, std::int64_t count, DType dtype, Traffic traffic,
                              Stream& stream) = 0;
  /// In place. fp32, fp64, i32 and i64, on CUDA fp16 and bf16 too; kMax passes a NaN on.
  virtual void all_reduce(void* data, std::int64_t count, DType dtype, ReduceOp op, Traffic traffic,
                          Stream& stream) = 0;
  virtual void broadcast(void* data, std::int64_t bytes, int root, Traffic traffic, Stream& stream) = 0;

  /// all_gather of host numbers that blocks the calling thread: for agreement, not for tensors.
  /// all (size() * mine.size()): rank p's numbers at p * mine.size(). @throws CommError.
  virtual void gather_host_blocking(std::span<const std::int64_t> mine, std::span<std::int64_t> all) = 0;

  /// New groups of the ranks with equal `color`, ordered by (key, rank here). Collective and blocking.
  [[nodiscard]] virtual std::unique_ptr<Communicator> split(int color, int key) = 0;

  /// Makes every pending and later collective of the whole world fail with `reason`, on every rank. From any
  /// thread.
  virtual void abort(const std::string& reason) noexcept = 0;
  /// Longest wait for peers to arrive at one collective.
  [[nodiscard]] virtual std::chrono::milliseconds deadline() const = 0;
  [[nodiscard]] virtual TrafficCounters& counters() = 0;
};

}  // namespace flex
