#pragma once

#include <chrono>
#include <deque>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/file_descriptor.h"
#include "runtime/control_connection.h"
#include "runtime/control_diagnosis.h"

namespace flex {

/// The middle of a control channel: a thread of rank 0's process to which every rank has one connection.
///
/// It lets the ranks of one job join, compares their settings, passes data between those that meet, and
/// watches over all: a process that ends or falls silent, a call to which a rank does not come in time, ranks
/// that call different things. Then it asks every rank what it does, and tells all of them the one reason.
/// Strangers (another job, another program) are refused or dropped, and change nothing.
class ControlHub {
 public:
  struct Options {
    int world = 1;
    std::string job;
    std::string where;  ///< `127.0.0.1:29500`, for messages
    std::chrono::milliseconds deadline{};
  };

  ControlHub(FileDescriptor listener, Options options);
  /// Waits until all ranks have left, or until a failed world has been told so.
  ~ControlHub();
  ControlHub(const ControlHub&) = delete;
  ControlHub& operator=(const ControlHub&) = delete;

 private:
  enum class Phase { kJoining, kRunning, kFailed };
  /// A failure that is looked into while the ranks are asked.
  struct Stall {
    int rank = 0;
    CallId id;
  };

  void run(const std::stop_token& stop);
  void poll_sockets();
  void accept_all(SteadyTime now);
  void receive_from(ControlConnection& connection, SteadyTime now);
  void handle(ControlConnection& connection, const Frame& frame, SteadyTime now);
  void join(ControlConnection& connection, const HelloMessage& hello);
  [[nodiscard]] std::string why_refused(const HelloMessage& hello) const;
  void arrive(const ControlConnection& connection, ArrivalMessage&& arrival, SteadyTime now);
  void lose(ControlConnection& connection, bool silent, SteadyTime now);
  void watch(SteadyTime now);
  void watch_join(SteadyTime now);
  void watch_meetings(SteadyTime now);
  void inquire(SteadyTime now);
  void conclude();
  void fail_world(const std::string& reason);
  void flush_all();
  [[nodiscard]] bool may_end(SteadyTime now, const std::stop_token& stop);
  [[nodiscard]] ControlConnection* find(int rank);

  FileDescriptor listener_;
  Options options_;
  ControlMeetings meetings_;
  Phase phase_ = Phase::kJoining;
  std::string reason_;
  SteadyTime began_;
  SteadyTime last_tick_;
  SteadyTime last_beat_;
  std::optional<SteadyTime> ending_;
  std::list<ControlConnection> connections_;
  std::map<int, std::vector<Setting>> settings_;
  std::set<int> heard_;  ///< ranks that have said who they are
  std::set<int> gone_;   ///< ranks that left or were lost

  std::deque<LostRank> lost_;
  std::deque<Stall> stalls_;
  std::optional<SteadyTime> inquiry_until_;
  std::map<int, ReportMessage> reports_;

  std::jthread thread_;  // last: it uses the rest
};

}  // namespace flex
