#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/file_descriptor.h"
#include "runtime/control_hub.h"
#include "runtime/flight_record.h"

namespace flex {

/// How a process joins the other processes of its job.
struct JoinOptions {
  int rank = 0;
  int world = 1;
  std::string job;   ///< only processes of the same name join each other
  std::string host;  ///< where rank 0 listens
  int port = 0;
  std::chrono::milliseconds deadline{};
  std::vector<Setting> settings;  ///< what must be alike on all ranks
  std::string bind;               ///< rank 0: the interface to listen on; empty: that of `host`
};

/// One rank's end of a small TCP channel beside a job of processes, with rank 0's process in its middle
/// (ControlHub): joining, host-side exchanges, and who is alive and doing what. Every process learns within
/// the deadline why its world has failed: `rank 2 is gone during all_to_all (dispatch) #17 in group
/// {0,1,2,3}: its process ended`. Moves no tensors: up to 64 MiB a message. All calls may come from any
/// thread.
class ControlChannel {
 public:
  /// Joins; blocks until all ranks have. Rank 0 listens, at `listener` if it is open.
  /// @throws CommError if not all join within the deadline, or do not fit together, or the port is another
  /// program's; InputError for options that cannot be.
  explicit ControlChannel(JoinOptions options, FileDescriptor listener = FileDescriptor());
  /// Leaves. On rank 0, waits until all others have left or the world has failed.
  ~ControlChannel();
  ControlChannel(const ControlChannel&) = delete;
  ControlChannel& operator=(const ControlChannel&) = delete;

  [[nodiscard]] int rank() const { return options_.rank; }
  [[nodiscard]] int world() const { return options_.world; }
  [[nodiscard]] std::chrono::milliseconds deadline() const { return options_.deadline; }
  /// What this rank called and does; the hub asks for it.
  [[nodiscard]] FlightRecord& record() { return record_; }

  /// This rank will call in this group, and the others of its members too.
  void declare(const GroupOfRanks& group);
  /// Brings `arrival` to the meeting of its group and number, and waits for the other members.
  /// @return what each of them has for this rank. @throws CommError.
  [[nodiscard]] std::vector<std::string> exchange_blocking(const ArrivalMessage& arrival);
  /// A device of this rank has waited in call `id` for longer than the deadline: the hub looks into it, and
  /// fails the world if somebody is missing.
  void report_stall(const CallId& id) noexcept;

  /// Fails the world, on all ranks, with this reason; the first one stays.
  void abort(const std::string& reason) noexcept;
  [[nodiscard]] bool aborted() const { return aborted_.load(std::memory_order_acquire); }
  /// Why; empty before an abort.
  [[nodiscard]] std::string reason() const;
  /// @throws CommError with the reason, if the world has failed.
  void require_alive() const;

 private:
  struct Pending {
    bool done = false;
    std::vector<std::string> pieces;
  };
  void connect_blocking();
  /// @return false if the other side closed the connection without a word: the end of an earlier job,
  /// perhaps.
  [[nodiscard]] bool shake_hands_blocking(SteadyTime until);
  void serve(const std::stop_token& stop);
  void handle(const Frame& frame);
  void receive();
  void drain();
  void beat(SteadyTime now);
  void send(FrameKind kind, std::string_view payload);
  void send_locked(std::string_view bytes);
  void fail_here(const std::string& reason);
  [[nodiscard]] std::string where() const;

  JoinOptions options_;
  FlightRecord record_;
  std::unique_ptr<ControlHub> hub_;  ///< rank 0's
  FileDescriptor socket_;
  FrameReader frames_;  ///< the service thread's, once it runs
  SteadyTime last_heard_;
  SteadyTime last_beat_;
  SteadyTime last_tick_;

  std::mutex send_mutex_;
  std::atomic<bool> send_broken_{false};

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool welcome_ = false;
  std::atomic<bool> aborted_{false};
  std::string reason_;
  std::map<CallId, Pending> pending_;

  std::jthread service_;  // last: it uses the rest
};

}  // namespace flex
