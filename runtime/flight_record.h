#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/collective_call.h"
#include "runtime/control_messages.h"

namespace flex {

/// A group of ranks as a rank knows it.
struct GroupOfRanks {
  std::uint64_t id = 0;  ///< the same on all its members
  std::vector<int> world_ranks;
};

/// What a rank called last, and how far it came: for people after a failure, and for the hub of the control
/// channel, which compares the records of all ranks. Thread-safe; writes allocate nothing but a queue's
/// nodes.
class FlightRecord {
 public:
  /// Finished operations that are kept. Those that are under way are kept whatever their number.
  static constexpr std::size_t kMostKept = 64;

  /// A call was made. @return its ticket, for enter() and finish().
  [[nodiscard]] std::uint64_t call(std::shared_ptr<const GroupOfRanks> group, std::uint64_t number,
                                   const CollectiveCall& call);
  /// It began: its stream has come to it.
  void enter(std::uint64_t ticket);
  void finish(std::uint64_t ticket);

  [[nodiscard]] ReportMessage report() const;
  /// `all_to_all (dispatch) #17 in group {0,1,2,3}`: what is under way for longest, or else was last; empty
  /// before the first call.
  [[nodiscard]] std::string current() const;
  /// The last `most` operations, oldest first, a line each: `#17 all_to_all (dispatch), 64 bytes per peer, in
  /// group {0,1}: 128 bytes, waiting for 2.013 s`.
  [[nodiscard]] std::vector<std::string> lines(std::size_t most) const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Entry {
    std::shared_ptr<const GroupOfRanks> group;
    std::uint64_t number = 0;
    CollectiveCall call;  ///< its pointers may dangle
    std::int64_t bytes = 0;
    OperationState state = OperationState::kQueued;
    Clock::time_point called;
    Clock::time_point entered;
    Clock::time_point done;
  };
  [[nodiscard]] Entry* find_locked(std::uint64_t ticket);

  mutable std::mutex mutex_;
  std::deque<Entry> entries_;
  std::uint64_t first_ = 0;                           ///< ticket of the first entry
  std::map<std::uint64_t, std::uint64_t> num_calls_;  ///< by group
};

}  // namespace flex
