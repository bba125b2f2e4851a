#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "runtime/collective_call.h"

/// Where the threads of an in-process world meet. It moves no data: who has arrived reads the peers' calls,
/// does its part with whatever means fit the buffers, and leaves.
namespace flex {

class LocalGroup;
struct LocalCudaRank;

/// What all groups of one in-process world share: its ranks' counters, its abort, and who waits where.
class LocalWorld {
 public:
  LocalWorld(Topology topology, std::chrono::milliseconds deadline);

  [[nodiscard]] const Topology& topology() const { return topology_; }
  [[nodiscard]] std::chrono::milliseconds deadline() const { return deadline_; }
  [[nodiscard]] TrafficCounters& counters(int world_rank) {
    return *counters_[static_cast<std::size_t>(world_rank)];
  }

  /// The first reason stays; later ones change nothing.
  void abort(const std::string& reason) noexcept;
  [[nodiscard]] bool aborted() const { return aborted_.load(std::memory_order_acquire); }

 private:
  friend class LocalGroup;
  struct Waiter;

  void abort_locked(const std::string& reason);
  /// @throws CommError with the reason of the abort, if there was one.
  void require_alive_locked() const;
  [[nodiscard]] std::string explain_locked(const Waiter& own) const;

  Topology topology_;
  std::chrono::milliseconds deadline_;
  std::vector<std::unique_ptr<TrafficCounters>> counters_;
  std::atomic<bool> aborted_{false};

  // One lock for the whole world: it is held for a few stores at a time, and the deadline needs a view of all
  // groups.
  std::mutex mutex_;
  std::string reason_;
  Waiter* waiters_ = nullptr;  ///< list of everyone who waits for an arrival, in any group
};

/// The meeting point of one group of ranks. Calls are matched by the number that a rank draws when it makes
/// the call, so that several streams of a rank may be inside different collectives of one group. Memory is
/// allocated only while the number of collectives in flight grows.
class LocalGroup {
 public:
  LocalGroup(std::shared_ptr<LocalWorld> world, std::vector<int> world_ranks);
  LocalGroup(const LocalGroup&) = delete;
  LocalGroup& operator=(const LocalGroup&) = delete;

  /// One collective in flight.
  struct Meeting {
    std::uint64_t number = 0;
    std::vector<CollectiveCall> calls;  ///< by rank; complete and constant between arrive() and leave()
    std::vector<std::shared_ptr<LocalGroup>> children;  ///< of a split, by rank

    // Of the group, under the world's lock.
    std::vector<bool> arrived;
    int num_arrived = 0;
    int num_done = 0;
    int num_gone = 0;
    bool complete = false;
    std::condition_variable changed;
  };

  [[nodiscard]] LocalWorld& world() const { return *world_; }
  [[nodiscard]] int size() const { return static_cast<int>(world_ranks_.size()); }
  [[nodiscard]] std::span<const int> world_ranks() const { return world_ranks_; }
  [[nodiscard]] int world_rank(int rank) const { return world_ranks_[static_cast<std::size_t>(rank)]; }

  /// What `rank` has on its GPU, for local_cuda.h: null before the rank's first collective there. Only the
  /// rank itself sets it, before it arrives; peers read it between its arrive() and their next one. It is the
  /// group's, since peers wait for a rank's events also when its communicator is gone.
  [[nodiscard]] std::shared_ptr<LocalCudaRank>& cuda_rank(int rank) {
    return cuda_ranks_[static_cast<std::size_t>(rank)];
  }

  /// Draws the number of the next collective that `rank` calls.
  [[nodiscard]] std::uint64_t draw_number(int rank);
  /// Blocks until all ranks have arrived at this number with calls that agree. From then on nothing fails:
  /// all of them do their part and leave, so that no buffer is read after its owner is gone.
  /// @throws CommError after the deadline, an abort, or calls that disagree; this aborts the world.
  [[nodiscard]] Meeting& arrive(int rank, std::uint64_t number, const CollectiveCall& call);
  /// Blocks until all ranks have done their part, so that the caller may reuse what the peers read.
  void leave(Meeting& meeting);

 private:
  friend class LocalWorld;
  [[nodiscard]] Meeting& meeting_locked(std::uint64_t number);
  void complete_locked(Meeting& meeting);
  void make_children_locked(Meeting& meeting);
  [[nodiscard]] std::string disagreement(const Meeting& meeting) const;

  std::shared_ptr<LocalWorld> world_;
  std::vector<int> world_ranks_;
  std::vector<std::atomic<std::uint64_t>> numbers_;  ///< calls made, by rank
  std::vector<std::shared_ptr<LocalCudaRank>> cuda_ranks_;
  std::deque<Meeting> storage_;
  std::vector<Meeting*> active_;
  std::vector<Meeting*> free_;
};

}  // namespace flex
