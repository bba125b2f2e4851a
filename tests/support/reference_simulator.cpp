#include "tests/support/reference_simulator.h"

#include <algorithm>
#include <optional>

namespace flex::testing {
namespace {

struct Node {
  std::size_t pass, index;
  Operation operation;
  std::vector<std::size_t> before;  // nodes
};

std::vector<Node> nodes_of(std::span<const SimulatedPass> passes) {
  std::vector<Node> nodes;
  for (std::size_t pass = 0; pass < passes.size(); ++pass) {
    const std::vector<Operation>& operations = passes[pass].schedule->operations;
    const std::size_t first = nodes.size();
    for (std::size_t i = 0; i < operations.size(); ++i) {
      Node node{pass, i, operations[i], {}};
      for (std::size_t other = 0; other < nodes.size(); ++other) {
        const StreamKind own = node.operation.stream;
        const StreamKind its = nodes[other].operation.stream;
        const bool in_order = its == own;
        const bool issued = its == StreamKind::kHost;  // the host comes here when it is done
        const bool border = nodes[other].pass < pass && own != StreamKind::kHost;
        const auto waits = operations[i].waits_for();
        const bool awaited =
            other >= first && std::ranges::count(waits, static_cast<std::int16_t>(other - first)) > 0;
        if (in_order || issued || border || awaited) node.before.push_back(other);
      }
      nodes.push_back(node);
    }
  }
  return nodes;
}

std::vector<int> members_of(const Operation& operation, int rank, int world) {
  using enum OperationKind;
  std::vector<int> members;
  const auto size = static_cast<int>(std::max<std::int64_t>(operation.size.peers, 1));
  for (int other = 0; other < world; ++other) {
    switch (operation.kind) {
      case kAgreeTokens:
      case kAgreeCapacity:
      case kReduceGateLoss:
      case kReduceGateGradients:
      case kReduceSharedGradients:
      case kAllToAll:
        members.push_back(other);
        break;
      case kNodeAllToAll:
      case kGatherWeights:
      case kScatterGradients:
        if (other / size == rank / size) members.push_back(other);
        break;
      case kRailAllToAll:
        if (other % (world / size) == rank % (world / size)) members.push_back(other);
        break;
      default:
        if (other == rank) members.push_back(other);
    }
  }
  return members;
}

class LongestPaths {
 public:
  LongestPaths(std::span<const SimulatedPass> passes, const ReferenceDurations& durations,
               const ReferenceDurations& issue)
      : nodes_(nodes_of(passes)),
        durations_(durations),
        issue_(issue),
        world_(passes.front().schedule->workload.world),
        known_(static_cast<std::size_t>(world_), std::vector<std::optional<ReferenceTimes>>(nodes_.size())) {}

  ReferenceTimeline all() {
    ReferenceTimeline timeline(known_.size());
    for (int rank = 0; rank < world_; ++rank) {
      for (std::size_t node = 0; node < nodes_.size(); ++node) {
        timeline[static_cast<std::size_t>(rank)].push_back(times(rank, node));
      }
    }
    return timeline;
  }

 private:
  // Back to the host operation at whose end the host went on.
  double queued_us(int rank, std::size_t node) {
    double sum = 0;
    for (std::size_t i = 0; i <= node; ++i) {
      const bool by_host = nodes_[i].operation.stream == StreamKind::kHost;
      if (by_host && i < node) sum = 0;
      if (!by_host) sum += issue_(nodes_[i].pass, nodes_[i].index, rank);
    }
    for (std::size_t i = node; i-- > 0;) {
      if (nodes_[i].operation.stream == StreamKind::kHost) return times(rank, i).end_us + sum;
    }
    return sum;
  }

  double ready_us(int rank, std::size_t node) {
    double ready = issue_ ? queued_us(rank, node) : 0;
    for (const std::size_t before : nodes_[node].before) ready = std::max(ready, times(rank, before).end_us);
    return ready;
  }

  ReferenceTimes times(int rank, std::size_t node) {
    std::optional<ReferenceTimes>& known = known_[static_cast<std::size_t>(rank)][node];
    if (known.has_value()) return *known;
    double begin = 0;
    double duration = 0;
    for (const int member : members_of(nodes_[node].operation, rank, world_)) {
      begin = std::max(begin, ready_us(member, node));
      duration = std::max(duration, durations_(nodes_[node].pass, nodes_[node].index, member));
    }
    known = {.begin_us = begin, .end_us = begin + duration};
    return *known;
  }

  std::vector<Node> nodes_;
  const ReferenceDurations& durations_;
  const ReferenceDurations& issue_;
  int world_;
  std::vector<std::vector<std::optional<ReferenceTimes>>> known_;
};

class Steps {
 public:
  Steps(std::span<const SimulatedPass> passes, const ReferenceDurations& durations)
      : nodes_(nodes_of(passes)),
        world_(passes.front().schedule->workload.world),
        states_(static_cast<std::size_t>(world_), std::vector<State>(nodes_.size())) {
    for (int rank = 0; rank < world_; ++rank) {
      for (std::size_t node = 0; node < nodes_.size(); ++node) {
        State& own = state(rank, node);
        own.members = members_of(nodes_[node].operation, rank, world_);
        for (const int member : own.members) {
          own.remaining_us =
              std::max(own.remaining_us, durations(nodes_[node].pass, nodes_[node].index, member));
        }
      }
    }
  }

  ReferenceTimeline run(const OverlapSlowdown& slowdown, double step_us) {
    for (double now = 0; !all_done(); now += step_us) {
      find_running(now);
      for (int rank = 0; rank < world_; ++rank) {
        for (std::size_t node = 0; node < nodes_.size(); ++node) {
          State& own = state(rank, node);
          if (own.running) own.remaining_us -= step_us / factor(rank, node, slowdown);
        }
      }
      for (std::vector<State>& ranks : states_) {
        for (State& one : ranks) {
          if (!one.running || one.remaining_us > step_us * 1e-6) continue;
          one.done = true;
          one.times.end_us = now + step_us;
        }
      }
    }
    ReferenceTimeline timeline(states_.size());
    for (std::size_t rank = 0; rank < states_.size(); ++rank) {
      for (const State& one : states_[rank]) timeline[rank].push_back(one.times);
    }
    return timeline;
  }

 private:
  struct State {
    std::vector<int> members;
    double remaining_us = 0;
    bool running = false;
    bool done = false;
    ReferenceTimes times;
  };

  State& state(int rank, std::size_t node) { return states_[static_cast<std::size_t>(rank)][node]; }
  bool all_done() {
    return std::ranges::all_of(states_,
                               [](const auto& ranks) { return std::ranges::all_of(ranks, &State::done); });
  }
  bool is_ready(int rank, std::size_t node) {
    return std::ranges::all_of(nodes_[node].before,
                               [&](std::size_t before) { return state(rank, before).done; });
  }
  void find_running(double now) {
    for (int rank = 0; rank < world_; ++rank) {
      for (std::size_t node = 0; node < nodes_.size(); ++node) {
        State& own = state(rank, node);
        const bool runs =
            !own.done && std::ranges::all_of(own.members, [&](int member) { return is_ready(member, node); });
        if (runs && !own.running) own.times.begin_us = now;
        own.running = runs;
      }
    }
  }
  bool is_busy(int rank, StreamKind stream) {
    for (std::size_t node = 0; node < nodes_.size(); ++node) {
      if (nodes_[node].operation.stream == stream && state(rank, node).running) return true;
    }
    return false;
  }
  double factor(int rank, std::size_t node, const OverlapSlowdown& slowdown) {
    if (nodes_[node].operation.stream == StreamKind::kHost) return 1;
    if (nodes_[node].operation.stream == StreamKind::kCompute) {
      return is_busy(rank, StreamKind::kCommunication) ? slowdown.compute : 1;
    }
    const bool beside = std::ranges::any_of(
        state(rank, node).members, [&](int member) { return is_busy(member, StreamKind::kCompute); });
    return beside ? slowdown.communication : 1;
  }

  std::vector<Node> nodes_;
  int world_;
  std::vector<std::vector<State>> states_;
};

}  // namespace

ReferenceTimeline reference_longest_paths(std::span<const SimulatedPass> passes,
                                          const ReferenceDurations& durations,
                                          const ReferenceDurations& issue) {
  return LongestPaths(passes, durations, issue).all();
}

ReferenceTimeline reference_steps(std::span<const SimulatedPass> passes, const ReferenceDurations& durations,
                                  const OverlapSlowdown& slowdown, double step_us) {
  return Steps(passes, durations).run(slowdown, step_us);
}

double last_end_us(const ReferenceTimeline& timeline) {
  double last = 0;
  for (const std::vector<ReferenceTimes>& rank : timeline) {
    for (const ReferenceTimes& times : rank) last = std::max(last, times.end_us);
  }
  return last;
}

}  // namespace flex::testing
