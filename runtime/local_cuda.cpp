#include "runtime/local_cuda.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <exception>
#include <memory>
#include <span>

#include "base/require.h"
#include "kernels/cuda_check.h"
#include "runtime/pull_pieces.h"
#include "runtime/rank_order_sum_cuda.h"

namespace flex {
namespace {

using Calls = std::span<const CollectiveCall>;

/// An issuing rank.
struct Issuer {
  LocalGroup& group;
  int rank;
  const CollectiveCall& call;
  Stream& stream;
};

void require_issuable(const Issuer& by) {
  const bool reduces =
      by.call.kind == CollectiveKind::kReduceScatter || by.call.kind == CollectiveKind::kAllReduce;
  if (reduces && by.group.size() > RankOrderReductionArgs::kMostRanks) {
    fail("{}: reductions on CUDA take up to {} in-process ranks, the group has {}",
         operation_name(by.call.kind, by.call.traffic), RankOrderReductionArgs::kMostRanks, by.group.size());
  }
  const std::shared_ptr<LocalCudaRank>& own = by.group.cuda_rank(by.rank);
  if (own != nullptr && own->device != by.stream.device()) {
    fail("{}: the stream runs on {}, earlier ones of this communicator ran on {}",
         operation_name(by.call.kind, by.call.traffic), to_string(by.stream.device()),
         to_string(own->device));
  }
}

/// Does `work`, whose failure the peers, which wait for this rank or will, must learn of.
template <class Work>
void do_or_abort(const Issuer& by, Work&& work) {
  try {
    work();
  } catch (const std::exception& error) {
    by.group.world().abort(fmt::format("rank {} failed in {}: {}", by.group.world_rank(by.rank),
                                       place_text(by.call.kind, by.call.traffic, by.group.world_ranks()),
                                       error.what()));
    throw;
  }
}

void wait_for_peers(const Issuer& by, Event LocalCudaRank::*event) {
  for (int peer = 0; peer < by.group.size(); ++peer) {
    if (peer != by.rank) by.stream.wait(*by.group.cuda_rank(peer).*event);
  }
}

void queue_copy(void* to, const void* from, std::int64_t bytes, const Stream& stream) {
  if (bytes == 0 || to == from) return;
  FLEX_CUDA_CHECK(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice,
                                  static_cast<cudaStream_t>(stream.native())));
}

RankOrderReductionArgs reduction_args(const Issuer& by) {
  RankOrderReductionArgs args;
  args.num_ranks = by.group.size();
  args.count = by.call.bytes / size_bytes(by.call.dtype);
  args.dtype = by.call.dtype;
  args.op = by.call.op;
  return args;
}

void queue_sum(const Issuer& by, Calls calls) {
  RankOrderReductionArgs args = reduction_args(by);
  for (int peer = 0; peer < args.num_ranks; ++peer) {
    args.from[peer] = calls[static_cast<std::size_t>(peer)].piece_for(by.rank);
  }
  args.to[0] = by.call.recv;
  args.num_to = 1;
  reduce_in_rank_order_cuda(args, by.stream);
}

/// Each rank reduces its share of the elements and writes it to all buffers, in place: nobody else touches
/// that share, so that no buffer in between is needed, and together the ranks read every buffer only once.
void queue_share(const Issuer& by, Calls calls) {
  constexpr std::int64_t kShareBytes = 16;  // shares begin where the widest access may
  RankOrderReductionArgs args = reduction_args(by);
  const std::int64_t unit = kShareBytes / size_bytes(args.dtype);
  const auto begin_of = [&](std::int64_t rank) {
    return rank == args.num_ranks ? args.count : args.count * rank / args.num_ranks / unit * unit;
  };
  const std::int64_t first = begin_of(by.rank);
  args.count = begin_of(by.rank + 1) - first;
  args.num_to = args.num_ranks;
  for (int peer = 0; peer < args.num_ranks; ++peer) {
    char* const data = static_cast<char*>(calls[static_cast<std::size_t>(peer)].recv);
    args.from[peer] = data + first * size_bytes(args.dtype);
    args.to[peer] = data + first * size_bytes(args.dtype);
  }
  reduce_in_rank_order_cuda(args, by.stream);
}

void queue_part(const Issuer& by, Calls calls) {
  switch (by.call.kind) {
    case CollectiveKind::kReduceScatter:
      return queue_sum(by, calls);
    case CollectiveKind::kAllReduce:
      if (by.group.size() > 1) queue_share(by, calls);
      return;
    default:
      return pull_pieces(calls, by.rank, [&](void* to, const void* from, std::int64_t bytes) {
        queue_copy(to, from, bytes, by.stream);
      });
  }
}

}  // namespace

void issue_local_cuda(LocalGroup& group, int rank, const CollectiveCall& call, Stream& stream) {
  const Issuer by{.group = group, .rank = rank, .call = call, .stream = stream};
  require_issuable(by);
  std::shared_ptr<LocalCudaRank>& own = group.cuda_rank(rank);
  const std::uint64_t number = group.draw_number(rank);
  do_or_abort(by, [&] {
    FLEX_CUDA_CHECK(cudaSetDevice(stream.device().index));
    if (own == nullptr) own = std::make_shared<LocalCudaRank>(stream.device());
    stream.record(own->ready);
  });
  LocalGroup::Meeting& meeting = group.arrive(rank, number, call);
  std::exception_ptr failure;
  try {
    do_or_abort(by, [&] {
      wait_for_peers(by, &LocalCudaRank::ready);
      queue_part(by, meeting.calls);
      stream.record(own->done);
    });
  } catch (...) {
    failure = std::current_exception();
  }
  group.leave(meeting);  // after a failure, too: the peers wait for this rank there, without a deadline
  if (failure) std::rethrow_exception(failure);
  do_or_abort(by, [&] { wait_for_peers(by, &LocalCudaRank::done); });
}

}  // namespace flex
