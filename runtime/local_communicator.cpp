#include "runtime/local_communicator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/collective_engine.h"
#include "runtime/local_rendezvous.h"
#include "runtime/pull_pieces.h"
#include "runtime/reduce_in_rank_order.h"

#ifdef FLEX_HAS_CUDA
#include "runtime/local_cuda.h"
#endif

namespace flex {
namespace {

using Calls = std::span<const CollectiveCall>;

void copy_piece(void* to, const void* from, std::int64_t bytes) {
  if (bytes > 0 && to != from) std::memcpy(to, from, static_cast<std::size_t>(bytes));
}

void pull_sum(Calls calls, int rank) {
  const CollectiveCall& own = calls[static_cast<std::size_t>(rank)];
  with_reduced_type(own.dtype, [&]<class T>(T) {
    reduce_in_rank_order<T>(
        static_cast<int>(calls.size()), own.bytes / static_cast<std::int64_t>(sizeof(T)), ReduceOp::kSum,
        [&](int p) { return reinterpret_cast<const T*>(calls[static_cast<std::size_t>(p)].piece_for(rank)); },
        [&](const T* block, std::int64_t begin, std::int64_t size) {
          std::copy_n(block, size, static_cast<T*>(own.recv) + begin);
        });
  });
}

/// Each rank reduces its share of the elements and writes it to all buffers, in place: nobody else touches
/// that share.
void reduce_share(Calls calls, int rank) {
  const CollectiveCall& own = calls[static_cast<std::size_t>(rank)];
  with_reduced_type(own.dtype, [&]<class T>(T) {
    const auto size = static_cast<std::int64_t>(calls.size());
    const std::int64_t count = own.bytes / static_cast<std::int64_t>(sizeof(T));
    const std::int64_t first = count * rank / size;
    const std::int64_t last = count * (rank + 1) / size;
    reduce_in_rank_order<T>(
        static_cast<int>(size), last - first, own.op,
        [&](int p) { return static_cast<const T*>(calls[static_cast<std::size_t>(p)].recv) + first; },
        [&](const T* block, std::int64_t begin, std::int64_t block_size) {
          for (const CollectiveCall& call : calls) {
            std::copy_n(block, block_size, static_cast<T*>(call.recv) + first + begin);
          }
        });
  });
}

/// The part of `rank` in a collective on CPU buffers to which all have arrived.
void do_part(Calls calls, int rank) {
  switch (calls[static_cast<std::size_t>(rank)].kind) {
    case CollectiveKind::kReduceScatter:
      return pull_sum(calls, rank);
    case CollectiveKind::kAllReduce:
      return reduce_share(calls, rank);
    default:
      return pull_pieces(calls, rank, copy_piece);
  }
}

class LocalMember final : public CollectiveEngine {
 public:
  LocalMember(std::shared_ptr<LocalGroup> group, int rank) : group_(std::move(group)), rank_(rank) {}

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] std::span<const int> world_ranks() const override { return group_->world_ranks(); }
  [[nodiscard]] std::string description() const override {
    return fmt::format("in-process, {} ranks", group_->size());
  }
  [[nodiscard]] std::string transport() const override { return "in-process"; }
  [[nodiscard]] std::chrono::milliseconds deadline() const override { return group_->world().deadline(); }
  [[nodiscard]] TrafficCounters& counters() override {
    return group_->world().counters(group_->world_rank(rank_));
  }

  [[nodiscard]] std::uint64_t draw_number() override { return group_->draw_number(rank_); }

  void run(std::uint64_t number, const CollectiveCall& call) override {
    LocalGroup::Meeting& meeting = group_->arrive(rank_, number, call);
    do_part(meeting.calls, rank_);
    group_->leave(meeting);
  }

#ifdef FLEX_HAS_CUDA
  [[nodiscard]] bool takes_cuda() const override { return true; }
  void issue(const CollectiveCall& call, Stream& stream) override {
    issue_local_cuda(*group_, rank_, call, stream);
  }
#endif

  [[nodiscard]] std::shared_ptr<CollectiveEngine> split(int color, int key) override {
    LocalGroup::Meeting& meeting = group_->arrive(rank_, draw_number(), split_call(color, key));
    std::shared_ptr<LocalGroup> child = meeting.children[static_cast<std::size_t>(rank_)];
    group_->leave(meeting);
    const auto own = std::ranges::find(child->world_ranks(), group_->world_rank(rank_));
    const auto child_rank = static_cast<int>(own - child->world_ranks().begin());
    return std::make_shared<LocalMember>(std::move(child), child_rank);
  }

  void abort(const std::string& reason) noexcept override { group_->world().abort(reason); }
  [[nodiscard]] bool aborted() const override { return group_->world().aborted(); }

 private:
  std::shared_ptr<LocalGroup> group_;
  int rank_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_local_world(Topology topology,
                                                            std::chrono::milliseconds deadline) {
  const auto world = std::make_shared<LocalWorld>(topology, deadline);
  std::vector<int> ranks;
  for (int rank = 0; rank < topology.world; ++rank) ranks.push_back(rank);
  const auto group = std::make_shared<LocalGroup>(world, std::move(ranks));
  std::vector<std::unique_ptr<Communicator>> communicators;
  for (int rank = 0; rank < topology.world; ++rank) {
    communicators.push_back(make_communicator(std::make_shared<LocalMember>(group, rank)));
  }
  return communicators;
}

}  // namespace flex
