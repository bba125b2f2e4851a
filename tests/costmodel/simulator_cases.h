#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/philox.h"
#include "costmodel/pass_sequence.h"
#include "costmodel/plan_pair.h"
#include "costmodel/simulator.h"
#include "tests/costmodel/cases.h"

/// Costs from functions, and random stacks of layers to simulate.
namespace flex::testing {

/// What a test says that operations cost.
class TestCosts final : public OperationCosts {
 public:
  using Cost = std::function<OperationCost(const Schedule&, std::size_t, const RankLoad&)>;

  explicit TestCosts(Cost cost) : cost_(std::move(cost)) {}
  /// Durations by kind; kinds that are left out cost nothing.
  explicit TestCosts(std::vector<std::pair<OperationKind, double>> durations_us)
      : cost_([table = std::move(durations_us)](const Schedule& schedule, std::size_t index,
                                                const RankLoad&) -> OperationCost {
          for (const auto& [kind, us] : table) {
            if (kind == schedule.operations[index].kind) return {.duration_us = us};
          }
          return {};
        }) {}

  [[nodiscard]] OperationCost cost(const Schedule& schedule, std::size_t index,
                                   const RankLoad& load) const override {
    return cost_(schedule, index, load);
  }
  [[nodiscard]] OverlapSlowdown overlap(AllToAllAlgorithm algorithm) const override {
    return algorithm == AllToAllAlgorithm::kLinear ? linear : hierarchical;
  }
  [[nodiscard]] bool differs_by_rank() const override { return differs; }

  [[nodiscard]] double pass_error(AllToAllAlgorithm algorithm) const override {
    return algorithm == AllToAllAlgorithm::kLinear ? linear_error : hierarchical_error;
  }

  OverlapSlowdown linear, hierarchical;
  double linear_error = 0, hierarchical_error = 0;  // of passes
  bool differs = false;

 private:
  Cost cost_;
};

/// A pass made by hand: only kinds, streams, peers and waits matter.
[[nodiscard]] inline Operation operation_of(OperationKind kind, StreamKind stream, std::int64_t peers = 0,
                                            std::optional<std::int16_t> wait = std::nullopt) {
  Operation operation{.kind = kind, .stream = stream, .size = {.peers = peers}};
  if (wait.has_value()) operation.waits[static_cast<std::size_t>(operation.num_waits++)] = *wait;
  return operation;
}

/// A random stack: settings and sizes of the grid of cases, plans, passes, one to three layers.
[[nodiscard]] inline LayerStack random_stack(PhiloxStream& random) {
  static const std::vector<Case> cases = all_cases();
  const Case& one = cases[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(cases.size())))];
  LayerStack stack{.workload = one.workload, .cluster = one.cluster};
  const std::vector<Plan> plans = PlanSpace(one.workload, one.cluster).plans();
  const auto pick = [&] {
    return plans[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(plans.size())))];
  };
  stack.forward = pick();
  do {
    stack.backward = pick();
  } while (!can_pair(stack.forward, stack.backward));
  stack.passes = static_cast<Passes>(random.below(3));
  stack.num_layers = 1 + random.below(3);
  stack.shared_gradient_bytes = random.below(2) * 1000;
  return stack;
}

/// Random but fixed: 0 for one operation in eight, else up to 10 us, other ones on every rank.
[[nodiscard]] inline double random_duration_us(std::uint64_t seed, const Schedule& schedule,
                                               std::size_t index, int rank) {
  const auto pass =
      static_cast<std::uint64_t>(schedule.part) * 2 + static_cast<std::uint64_t>(schedule.workload.pass);
  PhiloxStream random(seed, (pass * 64 + index) * 64 + static_cast<std::uint64_t>(rank));
  return random.below(8) == 0 ? 0 : 10 * random.uniform();
}

/// `host_counts`: queueing takes time, too.
[[nodiscard]] inline TestCosts random_costs(std::uint64_t seed, bool differs, bool host_counts = false) {
  constexpr std::uint64_t kIssueSeed = 7777;
  TestCosts costs([seed, differs, host_counts](const Schedule& schedule, std::size_t index,
                                               const RankLoad& load) -> OperationCost {
    const int rank = differs ? load.rank : 0;
    return {.duration_us = random_duration_us(seed, schedule, index, rank),
            .issue_us = host_counts ? random_duration_us(seed + kIssueSeed, schedule, index, rank) : 0};
  });
  costs.differs = differs;
  return costs;
}

}  // namespace flex::testing
