#include "runtime/mpi_member.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <mutex>
#include <string_view>
#include <utility>

#include "runtime/mpi_check.h"
#include "runtime/mpi_exchange.h"
#include "runtime/reduce_in_rank_order.h"

namespace flex {
namespace {

void copy_own(void* to, const void* from, std::int64_t bytes) {
  if (bytes > 0 && to != from) std::memcpy(to, from, static_cast<std::size_t>(bytes));
}

/// One process's membership of one group.
class MpiMember final : public CollectiveEngine {
 public:
  /// Takes over `comm`, of the ranks `world_ranks`.
  MpiMember(std::shared_ptr<MpiWorld> world, MPI_Comm comm, std::vector<int> world_ranks)
      : world_(std::move(world)), comm_(comm), world_ranks_(std::move(world_ranks)) {
    check_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check_mpi(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
    void* bound = nullptr;
    int found = 0;
    check_mpi(MPI_Comm_get_attr(comm_, MPI_TAG_UB, static_cast<void*>(&bound), &found), "MPI_Comm_get_attr");
    if (found != 0) num_tags_ = static_cast<std::uint64_t>(*static_cast<int*>(bound)) + 1;
  }
  ~MpiMember() override {
    int finalized = 0;
    MPI_Finalized(&finalized);
    // After an abort messages may be under way; see MpiWorld.
    if (finalized == 0 && !world_->aborted()) MPI_Comm_free(&comm_);
  }
  MpiMember(const MpiMember&) = delete;
  MpiMember& operator=(const MpiMember&) = delete;

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] std::span<const int> world_ranks() const override { return world_ranks_; }
  [[nodiscard]] std::string description() const override { return fmt::format("MPI, {} ranks", size()); }
  [[nodiscard]] std::string transport() const override {
    char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;
    check_mpi(MPI_Get_library_version(text, &length), "MPI_Get_library_version");
    // Its name and version come before details of how it was built.
    const std::string_view version(text, static_cast<std::size_t>(length));
    return std::string(version.substr(0, version.find_first_of(",\n")));
  }
  [[nodiscard]] std::chrono::milliseconds deadline() const override { return world_->deadline(); }
  [[nodiscard]] TrafficCounters& counters() override { return world_->counters(); }
  void abort(const std::string& reason) noexcept override { world_->abort(reason); }
  [[nodiscard]] bool aborted() const override { return world_->aborted(); }

  [[nodiscard]] std::uint64_t draw_number() override {
    return next_number_.fetch_add(1, std::memory_order_relaxed);
  }

  void run(std::uint64_t number, const CollectiveCall& call) override {
    std::unique_ptr<MpiExchange> exchange = take_exchange();
    try {
      exchange->begin(call, static_cast<int>(number % num_tags_));
      post_and_finish(*exchange, call);
    } catch (...) {
      if (!exchange->withdraw()) static_cast<void>(exchange.release());
      throw;
    }
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(exchange));
  }

  [[nodiscard]] std::shared_ptr<CollectiveEngine> split(int color, int key) override {
    // First an exchange that has a deadline: MPI_Comm_split has none, and once all are here, needs none.
    const std::array<int, 2> mine = {color, key};
    std::vector<std::array<int, 2>> all(world_ranks_.size());
    CollectiveCall call = split_call(color, key);
    call.bytes = sizeof(mine);
    call.send = mine.data();
    call.recv = all.data();
    run(draw_number(), call);

    std::vector<int> members;
    for (int peer = 0; peer < size(); ++peer) {
      if (all[static_cast<std::size_t>(peer)][0] == color) members.push_back(peer);
    }
    std::ranges::stable_sort(members, {}, [&](int peer) { return all[static_cast<std::size_t>(peer)][1]; });
    for (int& member : members) member = world_ranks_[static_cast<std::size_t>(member)];
    // MPI wants colors that are not negative.
    const auto color_index = std::ranges::count_if(all, [&](const auto& pair) { return pair[0] < color; });
    MPI_Comm child = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split(comm_, static_cast<int>(color_index), key, &child), "MPI_Comm_split");
    return std::make_shared<MpiMember>(world_, child, std::move(members));
  }

 private:
  [[nodiscard]] int size() const { return static_cast<int>(world_ranks_.size()); }

  std::unique_ptr<MpiExchange> take_exchange() {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) return std::make_unique<MpiExchange>(*world_, comm_, world_ranks_, rank_);
    std::unique_ptr<MpiExchange> exchange = std::move(idle_.back());
    idle_.pop_back();
    return exchange;
  }

  void post_and_finish(MpiExchange& exchange, const CollectiveCall& call) {
    switch (call.kind) {
      case CollectiveKind::kAllToAll:
      case CollectiveKind::kRaggedAllToAll:
        return exchange_pieces(exchange, call);
      case CollectiveKind::kAllGather:
      case CollectiveKind::kGatherHost:
      case CollectiveKind::kSplit:
        return gather(exchange, call);
      case CollectiveKind::kReduceScatter:
        return reduce_scatter(exchange, call);
      case CollectiveKind::kAllReduce:
        return all_reduce(exchange, call);
      case CollectiveKind::kBroadcast:
        return broadcast(exchange, call);
    }
  }

  /// Calls visit(peer) for every other rank, each rank starting elsewhere.
  template <class Visit>
  void for_each_peer(Visit visit) const {
    for (int i = 1; i < size(); ++i) visit((rank_ + i) % size());
  }

  void exchange_pieces(MpiExchange& exchange, const CollectiveCall& call) {
    for_each_peer([&](int peer) { exchange.receive(peer, call.place_of(peer), call.bytes_from(peer)); });
    for_each_peer([&](int peer) { exchange.send(peer, call.piece_for(peer), call.bytes_to(peer)); });
    copy_own(call.place_of(rank_), call.piece_for(rank_), call.bytes_from(rank_));
    exchange.complete_blocking();
  }

  void gather(MpiExchange& exchange, const CollectiveCall& call) {
    for_each_peer([&](int peer) { exchange.receive(peer, call.place_of(peer), call.bytes); });
    for_each_peer([&](int peer) { exchange.send(peer, call.send, call.bytes); });
    copy_own(call.place_of(rank_), call.send, call.bytes);
    exchange.complete_blocking();
  }

  void broadcast(MpiExchange& exchange, const CollectiveCall& call) {
    if (rank_ == call.root) {
      for_each_peer([&](int peer) { exchange.send(peer, call.recv, call.bytes); });
    } else {
      exchange.receive(call.root, call.recv, call.bytes);
    }
    exchange.complete_blocking();
  }

  void reduce_scatter(MpiExchange& exchange, const CollectiveCall& call) {
    char* const staging = exchange.staging(call.bytes * size());
    for_each_peer([&](int peer) { exchange.receive(peer, staging + peer * call.bytes, call.bytes); });
    for_each_peer([&](int peer) { exchange.send(peer, call.piece_for(peer), call.bytes); });
    exchange.complete_blocking();
    reduce_staged(call, staging, call.bytes, call.piece_for(rank_), static_cast<char*>(call.recv));
  }

  /// Each rank reduces its share of the elements and sends the result to all.
  void all_reduce(MpiExchange& exchange, const CollectiveCall& call) {
    const std::int64_t element = size_bytes(call.dtype);
    const std::int64_t count = call.bytes / element;
    const auto begin_of = [&](int peer) { return count * peer / size() * element; };
    const auto bytes_of = [&](int peer) { return begin_of(peer + 1) - begin_of(peer); };
    char* const data = static_cast<char*>(call.recv);
    const std::int64_t own_bytes = bytes_of(rank_);
    char* const staging = exchange.staging(own_bytes * size());
    for_each_peer([&](int peer) { exchange.receive(peer, staging + peer * own_bytes, own_bytes); });
    for_each_peer([&](int peer) { exchange.send(peer, data + begin_of(peer), bytes_of(peer)); });
    exchange.complete_blocking();
    reduce_staged(call, staging, own_bytes, data + begin_of(rank_), data + begin_of(rank_));
    for_each_peer([&](int peer) { exchange.receive(peer, data + begin_of(peer), bytes_of(peer)); });
    for_each_peer([&](int peer) { exchange.send(peer, data + begin_of(rank_), own_bytes); });
    exchange.complete_blocking();
  }

  /// Reduces the pieces of all ranks, `bytes` each: the peers' in `staging`, this rank's at `own`.
  void reduce_staged(const CollectiveCall& call, const char* staging, std::int64_t bytes, const char* own,
                     char* result) const {
    with_reduced_type(call.dtype, [&]<class T>(T) {
      reduce_in_rank_order<T>(
          size(), bytes / static_cast<std::int64_t>(sizeof(T)), call.op,
          [&](int p) { return reinterpret_cast<const T*>(p == rank_ ? own : staging + p * bytes); },
          [&](const T* block, std::int64_t begin, std::int64_t block_size) {
            std::copy_n(block, block_size, reinterpret_cast<T*>(result) + begin);
          });
    });
  }

  std::shared_ptr<MpiWorld> world_;
  MPI_Comm comm_;
  std::vector<int> world_ranks_;
  int rank_ = 0;
  std::uint64_t num_tags_ = 32768;  ///< what MPI guarantees at least
  std::atomic<std::uint64_t> next_number_{0};
  std::mutex mutex_;
  std::vector<std::unique_ptr<MpiExchange>> idle_;
};

}  // namespace

std::shared_ptr<CollectiveEngine> make_mpi_member(std::shared_ptr<MpiWorld> world, MPI_Comm comm,
                                                  std::vector<int> world_ranks) {
  return std::make_shared<MpiMember>(std::move(world), comm, std::move(world_ranks));
}

}  // namespace flex
