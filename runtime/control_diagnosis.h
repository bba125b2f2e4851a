#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/control_meetings.h"

/// Why a world has failed, in one line, from what all its ranks say. Pure functions, used by the hub.
namespace flex {

/// What the hub knows when it has asked every rank.
struct Evidence {
  std::chrono::milliseconds deadline{};
  std::map<std::uint64_t, std::vector<int>> groups;  ///< world ranks by group
  std::vector<Waiting> host_waits;                   ///< at meetings of the hub
  std::map<int, ReportMessage> reports;              ///< of the ranks that have answered
};

/// A rank whose process is gone or silent.
struct LostRank {
  int rank = 0;
  bool silent = false;                  ///< its connection stands, but nothing comes
  std::chrono::milliseconds silence{};  ///< for how long
  std::string last;                     ///< what it said last that it does; may be empty
};

/// All waits: those at meetings, and those of devices inside operations that a member has not entered yet.
[[nodiscard]] std::vector<Waiting> all_waits(const Evidence& evidence);

/// `rank 2 is gone during all_to_all (dispatch) #17 in group {0,1,2,3}: its process ended`. The operation is
/// one in which others wait for the rank, or else its own last one.
[[nodiscard]] std::string explain_loss(const LostRank& lost, const Evidence& evidence);

/// Why `rank` has waited for longer than the deadline in call `id`: who did not come, or who called something
/// else. @return nothing if all have come: then data is moving.
[[nodiscard]] std::optional<std::string> explain_stall(int rank, const CallId& id, const Evidence& evidence);

/// The settings that are not alike: `NCCL is 2.28.9 on rank 0 and 2.27.3 on rank 2`. Empty if they are.
[[nodiscard]] std::string settings_difference(const std::map<int, std::vector<Setting>>& settings);

}  // namespace flex
