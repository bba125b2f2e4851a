#pragma once

#include <mpi.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "runtime/communicator.h"
#include "runtime/wait_graph.h"

namespace flex {

/// What all groups of one MPI world share in a process: counters, and a control channel beside the
/// collectives, over which ranks learn that the job was aborted and ask each other whom they wait for. Nobody
/// reads the channel but the threads that wait inside a collective, so that it costs nothing else.
///
/// An abort ends the job in any case: a process that still holds its world kAbortGrace after it aborted or
/// learned of an abort calls MPI_Abort.
class MpiWorld {
 public:
  static constexpr std::chrono::milliseconds kAbortGrace{5000};
  /// How long a rank that gives up collects what others wait for. Polling peers answer within a millisecond
  /// or so; the rest is for machines with more ranks than cores.
  static constexpr std::chrono::milliseconds kAnswerTime{250};

  /// Takes over `control`, a duplicate of the world's MPI_Comm. `aborted_flag`, if any, is set by an abort.
  MpiWorld(MPI_Comm control, Topology topology, std::chrono::milliseconds deadline,
           std::shared_ptr<std::atomic<bool>> aborted_flag);
  ~MpiWorld();
  MpiWorld(const MpiWorld&) = delete;
  MpiWorld& operator=(const MpiWorld&) = delete;

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] std::chrono::milliseconds deadline() const { return deadline_; }
  [[nodiscard]] TrafficCounters& counters() { return counters_; }

  /// Prints the reason and tells it to all ranks. The first reason stays; later ones change nothing.
  void abort(const std::string& reason) noexcept;
  [[nodiscard]] bool aborted() const { return aborted_.load(std::memory_order_acquire); }
  /// @throws CommError with the reason of the abort, if there was one.
  void require_alive();

  /// Reads what has arrived on the control channel, then require_alive().
  void poll();
  /// Number of questions so far; a waiting thread passes what it had when it began to wait.
  [[nodiscard]] std::size_t num_questions() const { return num_questions_.load(std::memory_order_acquire); }
  /// Tells everyone who asked since `*seen` that this thread waits as `wait` says.
  void answer(const PeerWait& wait, std::size_t* seen);
  /// Asks all ranks, and this rank's other threads, whom they wait for. `own` comes first in the result.
  [[nodiscard]] std::vector<PeerWait> ask_blocking(const PeerWait& own, std::size_t* seen);

 private:
  static constexpr std::size_t kMostMissing = 64;
  enum class MessageKind : std::int32_t { kAbort, kQuestion, kAnswer };
  /// Small enough to be sent eagerly: the sender need not wait for a receiver that never looks.
  struct Message {
    MessageKind kind = MessageKind::kAbort;
    std::int32_t from = 0;
    std::int64_t question = 0;  ///< the asker's number of it
    std::int32_t num_missing = 0;
    std::array<std::int32_t, kMostMissing> missing{};
    std::array<char, 1024> text{};
  };
  struct Outgoing {
    Message message;
    MPI_Request request = MPI_REQUEST_NULL;
  };
  struct Question {
    int from = 0;
    std::int64_t number = 0;
  };
  struct Answer {
    std::int64_t question = 0;
    PeerWait wait;
  };

  void receive_locked();
  void handle_locked(const Message& message);
  void send_locked(int to, const Message& message);
  void record_question_locked(Question question);
  void set_aborted_locked(const std::string& reason);
  void watch_for_end(const std::stop_token& stop);
  void finish_channel() noexcept;

  MPI_Comm control_;
  Topology topology_;
  std::chrono::milliseconds deadline_;
  int rank_ = 0;
  TrafficCounters counters_;
  std::shared_ptr<std::atomic<bool>> aborted_flag_;
  std::atomic<bool> aborted_{false};
  std::atomic<std::size_t> num_questions_{0};

  std::mutex mutex_;
  std::string reason_;
  Message incoming_;
  MPI_Request incoming_request_ = MPI_REQUEST_NULL;
  std::unique_ptr<std::list<Outgoing>> outgoing_;  ///< by pointer, so that it can be left to MPI for good
  std::vector<Question> questions_;                ///< in the order in which they came
  std::vector<Answer> answers_;
  std::int64_t last_question_ = 0;

  std::mutex watch_mutex_;
  std::condition_variable_any watch_;
  std::jthread watchdog_;  // last: it ends before what it uses
};

}  // namespace flex
