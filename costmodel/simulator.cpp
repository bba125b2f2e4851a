#include "costmodel/simulator.h"

#include <algorithm>
#include <cmath>

#include "base/require.h"
#include "costmodel/rank_loads.h"
#include "costmodel/virtual_clock.h"

namespace flex {
namespace {

using Indices = std::array<std::int32_t, kNumStreams>;  // by stream

std::int32_t& on(Indices& operations, StreamKind stream) {
  return operations[static_cast<std::size_t>(stream)];
}

// What the executor's streams and events make an operation wait for. `last`: what was queued last on each
// stream, now and before the pass. A wait for an operation is one for all that its stream holds before it.
Indices after_of(const Operation& operation, Indices last, Indices last_before) {
  Indices after{-1, -1, -1};
  on(after, operation.stream) = on(last, operation.stream);
  on(after, StreamKind::kHost) = on(last, StreamKind::kHost);  // which queues it after that
  // Communication begins after the compute that was queued before the pass, and compute of later passes
  // after its communication.
  if (operation.stream == StreamKind::kCompute) {
    on(after, StreamKind::kCommunication) = on(last_before, StreamKind::kCommunication);
  } else if (operation.stream == StreamKind::kCommunication) {
    on(after, StreamKind::kCompute) = on(last_before, StreamKind::kCompute);
  }
  return after;
}

void check(const OperationCost& cost, const Operation& operation, int rank) {
  for (const double us : {cost.duration_us, cost.issue_us}) {
    if (std::isfinite(us) && us >= 0) continue;
    fail("the cost of {} on rank {} is {} us; it is finite and at least 0", label(operation), rank, us);
  }
}

void check(const OverlapSlowdown& slowdown, AllToAllAlgorithm algorithm) {
  for (const double factor : {slowdown.compute, slowdown.communication}) {
    require(std::isfinite(factor) && factor >= 1,
            "the slowdown of overlap with {} is {}; it is finite and at least 1", name(algorithm), factor);
  }
}

// A route part has no plan of its own: it is the first part of the pass whose experts follow.
AllToAllAlgorithm algorithm_of(std::span<const SimulatedPass> passes, std::size_t pass) {
  const bool before_experts = passes[pass].schedule->part == Part::kRoute && pass + 1 < passes.size();
  return passes[before_experts ? pass + 1 : pass].schedule->plan.all_to_all;
}

double checked_pass_error(const OperationCosts& costs, AllToAllAlgorithm algorithm) {
  const double error = costs.pass_error(algorithm);
  require(std::isfinite(error) && error >= 0,
          "the error of passes with {} is {}; it is finite and at least 0", name(algorithm), error);
  return error;
}

}  // namespace

struct Simulator::Impl {
  Simulation result;
  std::vector<OverlapSlowdown> slowdowns;  // by operation
  RankLoads loads;
  VirtualClock clock;

  void queue(std::span<const SimulatedPass> passes, const OperationCosts& costs);
  void queue_pass(const Schedule& schedule, std::int32_t pass, Indices& last);
  void ask(std::span<const SimulatedPass> passes, const OperationCosts& costs, bool fold);
  void ask_pass(const SimulatedPass& pass, std::size_t first, const OperationCosts& costs);
  [[nodiscard]] bool ranks_are_alike() const;
};

void Simulator::Impl::queue(std::span<const SimulatedPass> passes, const OperationCosts& costs) {
  result.operations.clear();
  result.pass_errors.clear();
  slowdowns.clear();
  result.world = passes.empty() ? 1 : passes.front().schedule->workload.world;
  Indices last{-1, -1, -1};
  for (std::size_t pass = 0; pass < passes.size(); ++pass) {
    const Schedule& schedule = *passes[pass].schedule;
    require(schedule.workload.world == result.world, "pass {} is of {} ranks, pass 0 of {}", pass,
            schedule.workload.world, result.world);
    queue_pass(schedule, static_cast<std::int32_t>(pass), last);
    const AllToAllAlgorithm algorithm = schedule.plan.all_to_all;
    const OverlapSlowdown slowdown = costs.overlap(algorithm);
    check(slowdown, algorithm);
    slowdowns.resize(result.operations.size(), slowdown);
    result.pass_errors.push_back(checked_pass_error(costs, algorithm_of(passes, pass)));
  }
}

void Simulator::Impl::queue_pass(const Schedule& schedule, std::int32_t pass, Indices& last) {
  const auto first = static_cast<std::int32_t>(result.operations.size());
  const Indices last_before = last;
  for (std::size_t i = 0; i < schedule.operations.size(); ++i) {
    const Operation& operation = schedule.operations[i];
    SimulatedOperation queued{.operation = operation,
                              .pass = pass,
                              .index = static_cast<std::int32_t>(i),
                              .after = after_of(operation, last, last_before)};
    for (const std::int16_t wait : operation.waits_for()) {
      std::int32_t& after = on(queued.after, schedule.operations[static_cast<std::size_t>(wait)].stream);
      after = std::max(after, first + wait);
    }
    if (group_of(operation.kind) != OperationGroup::kNone) {
      queued.group_size = std::max(1, static_cast<std::int32_t>(operation.size.peers));
      if (result.world % queued.group_size != 0) {
        fail("{} has groups of {}, which {} ranks do not fill", label(operation), queued.group_size,
             result.world);
      }
    }
    on(last, operation.stream) = static_cast<std::int32_t>(result.operations.size());
    result.operations.push_back(queued);
  }
}

void Simulator::Impl::ask(std::span<const SimulatedPass> passes, const OperationCosts& costs, bool fold) {
  const bool alike = !costs.differs_by_rank() &&
                     std::ranges::all_of(passes, [](const auto& pass) { return pass.counts.empty(); });
  result.num_ranks = alike && fold ? 1 : result.world;
  result.costs.resize(static_cast<std::size_t>(result.num_ranks) * result.operations.size());
  std::size_t first = 0;
  for (const SimulatedPass& pass : passes) {
    loads.bind(*pass.schedule, pass.counts, pass.usual_count);
    ask_pass(pass, first, costs);
    first += pass.schedule->operations.size();
  }
  if (fold && ranks_are_alike()) {
    result.num_ranks = 1;
    result.costs.resize(result.operations.size());
  }
}

void Simulator::Impl::ask_pass(const SimulatedPass& pass, std::size_t first, const OperationCosts& costs) {
  const Schedule& schedule = *pass.schedule;
  const bool same_for_equal_loads = !costs.differs_by_rank();
  std::int64_t tokens_before = -1;  // of the rank before
  for (int rank = 0; rank < result.num_ranks; ++rank) {
    std::int64_t tokens = 0;
    for (std::size_t i = 0; i < schedule.operations.size(); ++i) {
      const RankLoad load = loads.of(rank, schedule.operations[i]);
      tokens = load.num_tokens;
      OperationCost& cost = result.costs[result.at(rank, first + i)];
      // Most ranks have as many tokens as their neighbour, and most operations see nothing else.
      if (same_for_equal_loads && load.expert_rows.empty() && tokens == tokens_before) {
        cost = result.costs[result.at(rank - 1, first + i)];
        continue;
      }
      cost = costs.cost(schedule, i, load);
      check(cost, schedule.operations[i], rank);
    }
    tokens_before = tokens;
  }
}

bool Simulator::Impl::ranks_are_alike() const {
  const auto first = std::span(result.costs).first(result.operations.size());
  for (int rank = 1; rank < result.num_ranks; ++rank) {
    if (!std::ranges::equal(first, std::span(result.costs).subspan(result.at(rank, 0), first.size()))) {
      return false;
    }
  }
  return true;
}

Simulator::Simulator() : impl_(std::make_unique<Impl>()) {}
Simulator::~Simulator() = default;
Simulator::Simulator(Simulator&&) noexcept = default;
Simulator& Simulator::operator=(Simulator&&) noexcept = default;

const Simulation& Simulator::run(std::span<const SimulatedPass> passes, const OperationCosts& costs,
                                 SimulationSettings settings) {
  impl_->queue(passes, costs);
  impl_->ask(passes, costs, settings.fold);
  impl_->clock.run(impl_->result, impl_->slowdowns);
  return impl_->result;
}

Simulation simulate(std::span<const SimulatedPass> passes, const OperationCosts& costs,
                    SimulationSettings settings) {
  Simulator simulator;
  return simulator.run(passes, costs, settings);
}

}  // namespace flex
