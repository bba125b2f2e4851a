#include "runtime/local_rendezvous.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "base/require.h"
#include "runtime/wait_graph.h"

namespace flex {

/// A thread that waits for arrivals; lies on its stack, linked into the world's list.
struct LocalWorld::Waiter {
  LocalGroup& group;
  LocalGroup::Meeting& meeting;
  int rank;  ///< in the group
  LocalWorld& world;
  Waiter* previous = nullptr;
  Waiter* next = nullptr;

  Waiter(LocalGroup& group_in, LocalGroup::Meeting& meeting_in, int rank_in)
      : group(group_in), meeting(meeting_in), rank(rank_in), world(group_in.world()) {
    next = world.waiters_;
    if (next != nullptr) next->previous = this;
    world.waiters_ = this;
  }
  ~Waiter() {
    if (next != nullptr) next->previous = previous;
    (previous != nullptr ? previous->next : world.waiters_) = next;
  }
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;

  [[nodiscard]] PeerWait describe() const {
    const CollectiveCall& call = meeting.calls[static_cast<std::size_t>(rank)];
    PeerWait wait{.rank = group.world_rank(rank),
                  .place = place_text(call.kind, call.traffic, group.world_ranks()),
                  .missing = {},
                  .not_called = {}};
    for (int peer = 0; peer < group.size(); ++peer) {
      const auto at = static_cast<std::size_t>(peer);
      if (meeting.arrived[at]) continue;
      wait.missing.push_back(group.world_rank(peer));
      if (group.numbers_[at].load(std::memory_order_relaxed) <= meeting.number) {
        wait.not_called.push_back(group.world_rank(peer));
      }
    }
    return wait;
  }
};

LocalWorld::LocalWorld(Topology topology, std::chrono::milliseconds deadline)
    : topology_(topology), deadline_(deadline) {
  require(deadline.count() > 0, "a deadline of {} ms; it is at least 1 ms", deadline.count());
  require(topology.world > 0, "a world of {} ranks; it has at least 1", topology.world);
  for (int rank = 0; rank < topology.world; ++rank) {
    counters_.push_back(std::make_unique<TrafficCounters>(topology, rank));
  }
}

void LocalWorld::abort(const std::string& reason) noexcept {
  const std::lock_guard lock(mutex_);
  abort_locked(reason);
}

void LocalWorld::abort_locked(const std::string& reason) {
  if (aborted()) return;
  reason_ = reason;
  aborted_.store(true, std::memory_order_release);
  for (Waiter* waiter = waiters_; waiter != nullptr; waiter = waiter->next)
    waiter->meeting.changed.notify_all();
}

void LocalWorld::require_alive_locked() const {
  if (aborted()) throw CommError(reason_);
}

std::string LocalWorld::explain_locked(const Waiter& own) const {
  std::vector<PeerWait> waits = {own.describe()};
  for (const Waiter* waiter = waiters_; waiter != nullptr; waiter = waiter->next) {
    if (waiter != &own && !waiter->meeting.complete) waits.push_back(waiter->describe());
  }
  return explain_wait(waits, 0, deadline_);
}

LocalGroup::LocalGroup(std::shared_ptr<LocalWorld> world, std::vector<int> world_ranks)
    : world_(std::move(world)),
      world_ranks_(std::move(world_ranks)),
      numbers_(world_ranks_.size()),
      cuda_ranks_(world_ranks_.size()) {
  // A rank is in one meeting for each of its streams, and slow ones are still leaving theirs when the next
  // begins. More are made when they are needed, which allocates.
  constexpr std::size_t kOtherStreams = 8;
  constexpr std::size_t kMostPrepared = 40;
  const std::size_t prepared = std::min(2 * world_ranks_.size() + kOtherStreams, kMostPrepared);
  active_.reserve(prepared);
  free_.reserve(prepared);
  for (std::size_t i = 0; i < prepared; ++i) {
    Meeting& meeting = storage_.emplace_back();
    meeting.calls.resize(world_ranks_.size());
    meeting.arrived.resize(world_ranks_.size());
    free_.push_back(&meeting);
  }
}

std::uint64_t LocalGroup::draw_number(int rank) {
  return numbers_[static_cast<std::size_t>(rank)].fetch_add(1, std::memory_order_relaxed);
}

LocalGroup::Meeting& LocalGroup::arrive(int rank, std::uint64_t number, const CollectiveCall& call) {
  // The cap keeps a deadline of "forever" from overflowing the clock.
  const auto until = std::chrono::steady_clock::now() +
                     std::min<std::chrono::milliseconds>(world_->deadline(), std::chrono::hours(24 * 365));
  std::unique_lock lock(world_->mutex_);
  world_->require_alive_locked();
  Meeting& meeting = meeting_locked(number);
  meeting.calls[static_cast<std::size_t>(rank)] = call;
  meeting.arrived[static_cast<std::size_t>(rank)] = true;
  ++meeting.num_arrived;
  if (meeting.num_arrived == size()) {
    complete_locked(meeting);
    return meeting;
  }
  const LocalWorld::Waiter waiter(*this, meeting, rank);
  const bool woken =
      meeting.changed.wait_until(lock, until, [&] { return meeting.complete || world_->aborted(); });
  // Completeness comes first: the peers of a complete meeting are about to read this rank's buffers.
  if (meeting.complete) return meeting;
  if (!woken) world_->abort_locked(world_->explain_locked(waiter));
  throw CommError(world_->reason_);
}

void LocalGroup::leave(Meeting& meeting) {
  std::unique_lock lock(world_->mutex_);
  if (++meeting.num_done == size()) {
    meeting.changed.notify_all();
  } else {
    meeting.changed.wait(lock, [&] { return meeting.num_done == size(); });
  }
  if (++meeting.num_gone < size()) return;
  meeting.children.clear();
  std::erase(active_, &meeting);
  free_.push_back(&meeting);
}

LocalGroup::Meeting& LocalGroup::meeting_locked(std::uint64_t number) {
  const auto found =
      std::ranges::find(active_, number, [](const Meeting* meeting) { return meeting->number; });
  if (found != active_.end()) return **found;
  if (free_.empty()) {
    Meeting& grown = storage_.emplace_back();
    grown.calls.resize(world_ranks_.size());
    grown.arrived.resize(world_ranks_.size());
    free_.push_back(&grown);
  }
  Meeting& meeting = *free_.back();
  free_.pop_back();
  active_.push_back(&meeting);
  meeting.number = number;
  meeting.arrived.assign(world_ranks_.size(), false);
  meeting.num_arrived = 0;
  meeting.num_done = 0;
  meeting.num_gone = 0;
  meeting.complete = false;
  return meeting;
}

void LocalGroup::complete_locked(Meeting& meeting) {
  const std::string mismatch = disagreement(meeting);
  if (!mismatch.empty()) {
    world_->abort_locked(mismatch);
    throw CommError(mismatch);
  }
  if (meeting.calls[0].kind == CollectiveKind::kSplit) make_children_locked(meeting);
  meeting.complete = true;
  meeting.changed.notify_all();
}

std::string LocalGroup::disagreement(const Meeting& meeting) const {
  const std::vector<CollectiveCall>& calls = meeting.calls;
  if (!std::ranges::all_of(calls, [&](const CollectiveCall& call) { return agree(call, calls[0]); })) {
    return disagreement_text(calls, world_ranks_, world_ranks_);
  }
  if (calls[0].kind != CollectiveKind::kRaggedAllToAll) return {};
  for (int from = 0; from < size(); ++from) {
    for (int to = 0; to < size(); ++to) {
      const std::int64_t sent = calls[static_cast<std::size_t>(from)].bytes_to(to);
      const std::int64_t expected = calls[static_cast<std::size_t>(to)].bytes_from(from);
      if (sent == expected) continue;
      return ragged_disagreement_text(place_text(calls[0].kind, calls[0].traffic, world_ranks_),
                                      world_rank(from), sent, world_rank(to), expected);
    }
  }
  return {};
}

void LocalGroup::make_children_locked(Meeting& meeting) {
  std::map<int, std::vector<int>> members;  // ranks here by color
  for (int rank = 0; rank < size(); ++rank) {
    members[meeting.calls[static_cast<std::size_t>(rank)].color].push_back(rank);
  }
  meeting.children.resize(static_cast<std::size_t>(size()));
  for (auto& [color, ranks] : members) {
    std::ranges::stable_sort(ranks, {},
                             [&](int rank) { return meeting.calls[static_cast<std::size_t>(rank)].key; });
    std::vector<int> names;
    for (const int rank : ranks) names.push_back(world_rank(rank));
    const auto child = std::make_shared<LocalGroup>(world_, std::move(names));
    for (const int rank : ranks) meeting.children[static_cast<std::size_t>(rank)] = child;
  }
}

}  // namespace flex
