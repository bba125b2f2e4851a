#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "costmodel/simulation.h"

/// Private to the simulator: the discrete events.
namespace flex {

/// Fills in the times of a Simulation whose operations and costs are there. Holds its memory between runs.
class VirtualClock {
 public:
  /// `slowdowns`: by operation, those of its pass's algorithm.
  void run(Simulation& simulation, std::span<const OverlapSlowdown> slowdowns);

 private:
  static constexpr std::int32_t kNothing = -1;

  enum class State : std::uint8_t { kIdle, kReady, kRunning };  // kReady: waits for peers
  struct Stream {
    std::int32_t num_done = 0;
    std::int32_t awaits_issue = kNothing;  // its next operation, if an event stands for when it is queued
    State state = State::kIdle;
  };
  struct Rank {
    std::array<Stream, kNumStreams> streams;
    std::int32_t communication = kNothing;  // the activity that runs on the communication stream
    bool computes = false;
    bool unsettled = false;  // in unsettled_
    bool changed = false;    // in changed_
  };
  // Work under way: an operation of one rank, or of a whole group at once.
  struct Activity {
    double remaining_us = 0;  // at `since_us`, without slowdown
    double since_us = 0;
    double slowdown = 0;  // 0: has just begun
    std::int32_t operation = 0;
    std::int32_t rank = 0;         // of a group: its number
    std::uint32_t version = 0;     // of its end among the events
    std::int32_t num_ready = 0;    // members
    std::int32_t num_compute = 0;  // members that compute
    double duration_us = 0;        // longest of the members that are ready
  };
  // Of an activity; or, with a rank's number below zero, the moment at which its host has queued an
  // operation.
  struct End {
    double at_us;
    std::int32_t activity;
    std::uint32_t version;
  };
  struct Members {
    std::int32_t first, stride, count;
  };

  void prepare();
  void sum_up_issue();
  void settle();
  void reach(std::int32_t rank, int stream);
  void meet(std::int32_t rank, std::int32_t operation);
  void begin(std::int32_t activity, double duration_us, std::int32_t last_rank);
  void finish(std::int32_t activity);
  void finish_on(std::int32_t rank, std::int32_t operation);
  void set_computes(std::int32_t rank, bool computes);
  void set_slowdowns(std::int32_t rank);
  void set_slowdown(std::int32_t activity, double slowdown);
  void push_end(std::int32_t activity);
  bool advance();
  void mark_unsettled(std::int32_t rank);
  void mark_changed(std::int32_t rank);

  [[nodiscard]] double issued_us(std::int32_t rank, std::int32_t operation);
  [[nodiscard]] bool is_met(std::int32_t operation) const;
  [[nodiscard]] bool is_done(const Rank& rank, std::int32_t operation) const;
  [[nodiscard]] Members members_of(const Activity& activity) const;
  [[nodiscard]] std::int32_t activity_of(std::int32_t rank, int stream) const {
    return rank * kNumStreams + stream;
  }
  [[nodiscard]] OperationTimes& times(std::int32_t rank, std::int32_t operation) {
    return s_->times[s_->at(rank, static_cast<std::size_t>(operation))];
  }
  [[nodiscard]] const Operation& operation(std::int32_t index) const {
    return s_->operations[static_cast<std::size_t>(index)].operation;
  }
  [[nodiscard]] int stream_of(std::int32_t index) const { return static_cast<int>(operation(index).stream); }

  Simulation* s_ = nullptr;
  std::span<const OverlapSlowdown> slowdowns_;
  double now_us_ = 0;
  std::array<std::vector<std::int32_t>, kNumStreams> queues_;  // operations by stream
  std::vector<std::int32_t> places_;                           // of operations in their queue
  std::vector<std::int32_t> first_group_;                      // activity of an operation's first group
  std::vector<double> issue_us_;  // (num_ranks, operations): to queue all since the last host operation
  std::vector<Rank> ranks_;
  std::vector<Activity> activities_;  // of streams (rank, stream), then of groups
  std::vector<std::int32_t> unsettled_;
  std::vector<std::int32_t> changed_;
  std::vector<End> ends_;  // a heap; ends of an older version no longer count
};

}  // namespace flex
