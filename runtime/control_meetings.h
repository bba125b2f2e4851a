#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/control_messages.h"
#include "runtime/wait_graph.h"

namespace flex {

using SteadyTime = std::chrono::steady_clock::time_point;

/// Someone who waits at a call for the rest of its group.
struct Waiting {
  PeerWait wait;
  CallId id;
  SteadyTime since;
};

/// Where the ranks of a world meet, seen from the hub: who has come to which call of which group, with what
/// data. Knows nothing of sockets and clocks.
class ControlMeetings {
 public:
  explicit ControlMeetings(int world) : world_(world) {}

  /// What came of an arrival: nothing yet, a failure of the world, or data for every member.
  struct Outcome {
    std::string failure;
    std::vector<int> members;                 ///< empty while some are missing
    std::vector<CompleteMessage> deliveries;  ///< by member
  };

  /// `rank` will call in this group. @throws CommError for members that cannot be, or differ from those that
  /// another rank has told.
  void declare(int rank, const GroupMessage& message);
  /// @throws CommError for an arrival that cannot be.
  [[nodiscard]] Outcome arrive(int rank, ArrivalMessage&& arrival, SteadyTime now);

  [[nodiscard]] std::vector<Waiting> waiting() const;
  [[nodiscard]] const std::map<std::uint64_t, std::vector<int>>& groups() const { return groups_; }

 private:
  struct Meeting {
    std::vector<std::optional<ArrivalMessage>> arrivals;  ///< by member
    std::vector<SteadyTime> since;
    std::size_t num_arrived = 0;
  };
  [[nodiscard]] std::string disagreement(const std::vector<int>& members, const Meeting& meeting) const;

  int world_;
  std::map<std::uint64_t, std::vector<int>> groups_;
  std::map<CallId, Meeting> meetings_;
};

}  // namespace flex
