#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "runtime/communicator.h"

/// What the communicators that work on the host share: one call of a collective as data, its checks and its
/// name.
namespace flex {

enum class CollectiveKind : std::uint8_t {
  kAllToAll,
  kRaggedAllToAll,
  kAllGather,
  kReduceScatter,
  kAllReduce,
  kBroadcast,
  kGatherHost,
  kSplit,
};

/// One rank's side of one collective. Small and trivially copyable: it travels in a stream's task.
struct CollectiveCall {
  CollectiveKind kind = CollectiveKind::kAllToAll;
  Device device;  ///< of the stream and the buffers
  Traffic traffic = Traffic::kOther;
  DType dtype = DType::kU8;      ///< of a reduction
  ReduceOp op = ReduceOp::kSum;  ///< of an all_reduce
  int root = 0;                  ///< of a broadcast
  std::int64_t bytes = 0;        ///< for or from each rank; an all_reduce's or a broadcast's whole buffer
  const void* send = nullptr;    ///< null where the call is in place
  void* recv = nullptr;
  std::int64_t group = 1;  ///< of an all_to_all: the piece for p lies at shared_place(p, group, parts)
  std::int64_t parts = 1;
  const std::int64_t* send_offset_bytes = nullptr;  ///< the ragged exchange's; null elsewhere
  const std::int64_t* send_bytes = nullptr;         ///< the ragged exchange's; null elsewhere
  const std::int64_t* recv_bytes = nullptr;
  const std::int64_t* recv_offset_bytes = nullptr;
  int color = 0;  ///< of a split
  int key = 0;

  [[nodiscard]] std::int64_t bytes_to(int peer) const {
    return send_bytes != nullptr ? send_bytes[peer] : bytes;
  }
  [[nodiscard]] std::int64_t bytes_from(int peer) const {
    return recv_bytes != nullptr ? recv_bytes[peer] : bytes;
  }
  /// Where the piece for `peer` lies in `send` (all_to_all, ragged, reduce_scatter).
  [[nodiscard]] const char* piece_for(int peer) const {
    return static_cast<const char*>(send) + (send_offset_bytes != nullptr
                                                 ? send_offset_bytes[peer]
                                                 : shared_place(peer, group, parts) * bytes);
  }
  /// Where the piece of `peer` goes in `recv` (all_to_all, ragged, all_gather).
  [[nodiscard]] char* place_of(int peer) const {
    return static_cast<char*>(recv) + (recv_offset_bytes != nullptr ? recv_offset_bytes[peer] : peer * bytes);
  }
};

/// The calls of a group of `size` ranks, for CPU buffers. @throws InputError for sizes or roots that cannot
/// be.
[[nodiscard]] CollectiveCall all_to_all_call(const AllToAllArgs& args, int size);
[[nodiscard]] CollectiveCall ragged_all_to_all_call(const RaggedAllToAllArgs& args, int size);
[[nodiscard]] CollectiveCall all_gather_call(const void* send, void* recv, std::int64_t bytes_per_rank,
                                             Traffic traffic);
[[nodiscard]] CollectiveCall reduce_scatter_call(const void* send, void* recv, std::int64_t count,
                                                 DType dtype, Traffic traffic);
[[nodiscard]] CollectiveCall all_reduce_call(void* data, std::int64_t count, DType dtype, ReduceOp op,
                                             Traffic traffic);
[[nodiscard]] CollectiveCall broadcast_call(void* data, std::int64_t bytes, int root, int size,
                                            Traffic traffic);
[[nodiscard]] CollectiveCall gather_host_call(std::span<const std::int64_t> mine, std::span<std::int64_t> all,
                                              int size);
[[nodiscard]] CollectiveCall split_call(int color, int key);

/// @throws InputError for a reduction of a type that the device of `call` does not reduce.
void require_reducible(const CollectiveCall& call);

/// `all_to_all (dispatch)`.
[[nodiscard]] std::string operation_name(CollectiveKind kind, Traffic traffic);
/// `all_to_all (dispatch), 64 bytes per peer`, and ` on cuda:0` of a call that is not for CPU buffers.
[[nodiscard]] std::string describe(const CollectiveCall& call);
/// `{0,1,2,3}`.
[[nodiscard]] std::string group_text(std::span<const int> world_ranks);
/// `all_to_all (dispatch) in group {0,1,2,3}`.
[[nodiscard]] std::string place_text(CollectiveKind kind, Traffic traffic, std::span<const int> world_ranks);
/// `rank 2` or `ranks 2, 3`.
[[nodiscard]] std::string ranks_text(std::span<const int> ranks);

/// True if two ranks' calls can be sides of one collective; the sizes of a ragged exchange are compared
/// elsewhere.
[[nodiscard]] bool agree(const CollectiveCall& a, const CollectiveCall& b);

/// Who called what, for calls that do not agree(): those of `callers`, ranks of the group of `world_ranks`.
[[nodiscard]] std::string disagreement_text(std::span<const CollectiveCall> calls,
                                            std::span<const int> callers, std::span<const int> world_ranks);
/// The same for calls that were described elsewhere.
[[nodiscard]] std::string disagreement_text(std::span<const std::string> calls, std::span<const int> callers,
                                            std::span<const int> world_ranks);
/// The same for one pair of a ragged exchange at `place`, a place_text().
[[nodiscard]] std::string ragged_disagreement_text(std::string_view place, int from, std::int64_t sent_bytes,
                                                   int to, std::int64_t expected_bytes);

/// Adds what `rank` moved in `call` to its counters.
void count_traffic(const CollectiveCall& call, int rank, std::span<const int> world_ranks,
                   TrafficCounters& counters);

}  // namespace flex
