#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "runtime/collective_engine.h"
#include "runtime/control_channel.h"

namespace flex {

/// What all groups of one world of processes share in a process.
class ControlWorld {
 public:
  /// Joins; collective and blocking. @throws like ControlChannel; InputError for a topology that cannot be.
  ControlWorld(JoinOptions options, int ranks_per_node, FileDescriptor listener = FileDescriptor());

  [[nodiscard]] ControlChannel& channel() { return channel_; }
  [[nodiscard]] TrafficCounters& counters() { return counters_; }

 private:
  TrafficCounters counters_;  // before the channel, which waits for peers: a bad topology is refused at once
  ControlChannel channel_;
};

/// A process's membership of one group: collectives on CPU buffers over the control channel, whose hub
/// compares the calls of all ranks and passes on at most 64 MiB a call and rank. It is the host side of ranks
/// whose tensors lie elsewhere: counts, agreement, snapshots. Reductions are taken in rank order.
class ControlMember : public CollectiveEngine {
 public:
  /// `group` is known to the channel.
  ControlMember(std::shared_ptr<ControlWorld> world, std::shared_ptr<const GroupOfRanks> group);

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] std::span<const int> world_ranks() const override { return group_->world_ranks; }
  [[nodiscard]] std::string description() const override;
  [[nodiscard]] std::string transport() const override { return "control channel"; }
  [[nodiscard]] std::chrono::milliseconds deadline() const override { return world_->channel().deadline(); }
  [[nodiscard]] TrafficCounters& counters() override { return world_->counters(); }
  [[nodiscard]] std::uint64_t draw_number() override {
    return next_number_.fetch_add(1, std::memory_order_relaxed);
  }
  void run(std::uint64_t number, const CollectiveCall& call) override;
  [[nodiscard]] std::shared_ptr<CollectiveEngine> split(int color, int key) override;
  void abort(const std::string& reason) noexcept override { world_->channel().abort(reason); }
  [[nodiscard]] bool aborted() const override { return world_->channel().aborted(); }

 protected:
  [[nodiscard]] int size() const { return static_cast<int>(group_->world_ranks.size()); }
  [[nodiscard]] ControlChannel& channel() const { return world_->channel(); }
  [[nodiscard]] const std::shared_ptr<ControlWorld>& world() const { return world_; }
  [[nodiscard]] const std::shared_ptr<const GroupOfRanks>& group() const { return group_; }

  /// A group that this rank comes into by a split.
  struct Part {
    std::shared_ptr<const GroupOfRanks> group;
    int color = 0;  ///< 0, 1, ... in the order of the colors given
    int key = 0;    ///< this rank's place in the group
  };
  [[nodiscard]] Part split_blocking(int color, int key);
  /// What a meeting of `call` brings to the hub, without data.
  [[nodiscard]] ArrivalMessage arrival_of(std::uint64_t number, const CollectiveCall& call) const;

 private:
  [[nodiscard]] std::vector<std::string> pieces_of(const CollectiveCall& call) const;
  void place(const CollectiveCall& call, const std::vector<std::string>& pieces) const;
  void reduce(const CollectiveCall& call, const std::vector<std::string>& pieces) const;
  [[nodiscard]] std::vector<std::string> meet(std::uint64_t number, const CollectiveCall& call);

  std::shared_ptr<ControlWorld> world_;
  std::shared_ptr<const GroupOfRanks> group_;
  int rank_ = 0;
  std::atomic<std::uint64_t> next_number_{0};
};

/// All ranks of a joined world, in their order; tells the channel of it.
[[nodiscard]] std::shared_ptr<const GroupOfRanks> world_group(ControlWorld& world);

/// A world of processes with CPU buffers and nothing but the control channel.
[[nodiscard]] std::unique_ptr<Communicator> make_control_world(JoinOptions options, int ranks_per_node,
                                                               FileDescriptor listener = FileDescriptor());

}  // namespace flex
