#include <gtest/gtest.h>

#include <algorithm>

#include "costmodel/critical_path.h"
#include "costmodel/simulator.h"
#include "costmodel/stream_use.h"
#include "tests/costmodel/simulator_cases.h"
#include "tests/support/reference_simulator.h"

/// What holds for random stacks of layers, plans and durations.
namespace flex::testing {
namespace {

constexpr int kTrials = 300;
// Sums of up to a few hundred durations of at most 10 us, each rounded to 53 bits.
constexpr double kRounding = 1e-9;

struct Trial {
  std::uint64_t seed;
  LayerStack stack;
  PassSequence sequence;

  explicit Trial(std::uint64_t number) : seed(number) {
    PhiloxStream random(number, 99);
    stack = random_stack(random);
    sequence.build(stack);
  }
  [[nodiscard]] std::span<const SimulatedPass> passes() const { return sequence.passes(); }
  [[nodiscard]] std::string text() const {
    return fmt::format("trial {}: {} then {}, {} ranks, {} experts, {} layers", seed,
                       to_string(stack.forward), to_string(stack.backward), stack.workload.world,
                       stack.workload.num_experts, stack.num_layers);
  }
  [[nodiscard]] ReferenceDurations durations(const OperationCosts& costs) const {
    return [this, &costs](std::size_t pass, std::size_t index, int rank) {
      return costs.cost(*passes()[pass].schedule, index, {.rank = rank}).duration_us;
    };
  }
};

OverlapSlowdown random_slowdown(std::uint64_t seed) {
  PhiloxStream random(seed, 5);
  const double compute = 1 + random.uniform();
  return {.compute = compute, .communication = 1 + random.uniform()};
}

TEST(SimulatorProperty, EqualsLongestPathsWithoutSlowdowns) {
  Simulator simulator;
  for (std::uint64_t seed = 0; seed < kTrials; ++seed) {
    const Trial trial(seed);
    const TestCosts costs = random_costs(seed, seed % 4 != 0);
    const Simulation& simulation = simulator.run(trial.passes(), costs);
    const ReferenceTimeline expected = reference_longest_paths(trial.passes(), trial.durations(costs));
    for (int rank = 0; rank < simulation.num_ranks; ++rank) {
      for (std::size_t i = 0; i < simulation.operations.size(); ++i) {
        const OperationTimes& times = simulation.times[simulation.at(rank, i)];
        ASSERT_EQ(times.begin_us, expected[static_cast<std::size_t>(rank)][i].begin_us) << trial.text();
        ASSERT_EQ(times.end_us, expected[static_cast<std::size_t>(rank)][i].end_us) << trial.text();
      }
    }
    ASSERT_EQ(simulation.total_us, last_end_us(expected)) << trial.text();
  }
}

TEST(SimulatorProperty, EqualsLongestPathsWithAHostThatTakesTime) {
  Simulator simulator;
  for (std::uint64_t seed = 0; seed < kTrials; ++seed) {
    const Trial trial(seed);
    const TestCosts costs = random_costs(seed, seed % 4 != 0, true);
    const Simulation& simulation = simulator.run(trial.passes(), costs);
    const ReferenceDurations issue = [&](std::size_t pass, std::size_t index, int rank) {
      return costs.cost(*trial.passes()[pass].schedule, index, {.rank = rank}).issue_us;
    };
    const ReferenceTimeline expected = reference_longest_paths(trial.passes(), trial.durations(costs), issue);
    for (int rank = 0; rank < simulation.num_ranks; ++rank) {
      for (std::size_t i = 0; i < simulation.operations.size(); ++i) {
        const OperationTimes& times = simulation.times[simulation.at(rank, i)];
        ASSERT_EQ(times.begin_us, expected[static_cast<std::size_t>(rank)][i].begin_us) << trial.text();
        ASSERT_EQ(times.end_us, expected[static_cast<std::size_t>(rank)][i].end_us) << trial.text();
        ASSERT_LE(times.issued_us, times.ready_us) << trial.text();
      }
    }
    const CriticalPath path = critical_path(simulation);
    double sum_us = path.issue_us;
    for (const double us : path.kind_us) sum_us += us;
    ASSERT_NEAR(sum_us, simulation.total_us, kRounding) << trial.text();
  }
}

TEST(SimulatorProperty, EqualsSmallStepsWithSlowdowns) {
  constexpr double kStepUs = 1.0 / 128;
  int compared = 0;
  for (std::uint64_t seed = 0; compared < 15; ++seed) {
    const Trial trial(seed);
    if (trial.stack.workload.world > 4 || trial.stack.num_layers > 1) continue;
    TestCosts costs = random_costs(seed, true);
    costs.linear = costs.hierarchical = random_slowdown(seed);
    const Simulation simulation = simulate(trial.passes(), costs, {.fold = false});
    const ReferenceTimeline expected =
        reference_steps(trial.passes(), trial.durations(costs), costs.linear, kStepUs);
    // A step late for each operation on the way, and what it may have slowed meanwhile.
    const double tolerance = 2 * kStepUs * static_cast<double>(simulation.operations.size());
    for (int rank = 0; rank < simulation.num_ranks; ++rank) {
      for (std::size_t i = 0; i < simulation.operations.size(); ++i) {
        ASSERT_NEAR(simulation.times[simulation.at(rank, i)].end_us,
                    expected[static_cast<std::size_t>(rank)][i].end_us, tolerance)
            << trial.text() << ", " << label(simulation.operations[i].operation);
      }
    }
    ++compared;
  }
}

TEST(SimulatorProperty, OneRankStandsForAllToTheBit) {
  for (std::uint64_t seed = 0; seed < kTrials; ++seed) {
    const Trial trial(seed);
    TestCosts costs = random_costs(seed, false, seed % 2 == 0);
    costs.linear = random_slowdown(seed);
    costs.hierarchical = random_slowdown(seed + 1);
    const Simulation folded = simulate(trial.passes(), costs);
    const Simulation all = simulate(trial.passes(), costs, {.fold = false});
    ASSERT_EQ(folded.num_ranks, 1);
    ASSERT_EQ(all.num_ranks, trial.stack.workload.world);
    ASSERT_EQ(all.total_us, folded.total_us) << trial.text();
    for (int rank = 0; rank < all.num_ranks; ++rank) {
      for (std::size_t i = 0; i < all.operations.size(); ++i) {
        const OperationTimes& times = all.times[all.at(rank, i)];
        ASSERT_EQ(times.ready_us, folded.times[i].ready_us) << trial.text();
        ASSERT_EQ(times.begin_us, folded.times[i].begin_us) << trial.text();
        ASSERT_EQ(times.end_us, folded.times[i].end_us) << trial.text();
      }
    }
  }
}

// Equal counts are the even case, found by comparing what the ranks cost.
TEST(SimulatorProperty, EqualCountsFoldAndUnequalOnesDoNot) {
  const TestCosts costs(
      [](const Schedule& schedule, std::size_t index, const RankLoad& load) -> OperationCost {
        if (schedule.operations[index].kind != OperationKind::kEncode) return {.duration_us = 2};
        return {.duration_us = static_cast<double>(load.num_tokens)};
      });
  LayerStack stack{.workload = {.world = 4, .num_experts = 4, .num_tokens = 8, .capacity = 4},
                   .cluster = {.nodes = 2, .ranks_per_node = 2}};
  std::vector<std::int64_t> counts(16, 2);
  PassSequence sequence;
  sequence.build(stack, counts);
  const Simulation equal = simulate(sequence.passes(), costs);
  PassSequence even;
  even.build(stack);
  EXPECT_TRUE(equal.folded());
  EXPECT_EQ(equal.total_us, simulate(even.passes(), costs).total_us);
  EXPECT_EQ(equal.times, simulate(even.passes(), costs).times);

  counts[0] = 0;  // rank 0 has two tokens fewer, and waits for the others in the exchange
  sequence.build(stack, counts);
  const Simulation uneven = simulate(sequence.passes(), costs);
  EXPECT_EQ(uneven.num_ranks, 4);
  EXPECT_EQ(uneven.total_us, equal.total_us);
  EXPECT_GT(
      stream_use(uneven, 0)[static_cast<std::size_t>(StreamKind::kCommunication)].idle(IdleCause::kPeer), 0);
}

// No operation ends earlier when one of them, or all of a kind of stream, takes longer.
TEST(SimulatorProperty, LongerOperationsNeverEndAnythingEarlier) {
  for (std::uint64_t seed = 0; seed < kTrials; ++seed) {
    const Trial trial(seed);
    const TestCosts costs = random_costs(seed, true);
    const Simulation before = simulate(trial.passes(), costs, {.fold = false});
    PhiloxStream random(seed, 7);
    const auto stream = static_cast<StreamKind>(random.below(kNumStreams));
    const int slow_rank = static_cast<int>(random.below(trial.stack.workload.world));
    const bool everywhere = random.below(2) == 0;
    const double factor = 1 + random.uniform();
    TestCosts longer([&](const Schedule& schedule, std::size_t index, const RankLoad& load) -> OperationCost {
      OperationCost cost = costs.cost(schedule, index, load);
      const bool grows =
          schedule.operations[index].stream == stream && (everywhere || load.rank == slow_rank);
      cost.duration_us *= grows ? factor : 1;
      return cost;
    });
    longer.differs = true;
    const Simulation after = simulate(trial.passes(), longer, {.fold = false});
    for (std::size_t i = 0; i < before.times.size(); ++i) {
      ASSERT_GE(after.times[i].end_us, before.times[i].end_us) << trial.text();
    }
  }
}

// With slowdowns: never below the run without them, nor above the one in which everything is slowed all the
// time.
TEST(SimulatorProperty, SlowdownsStayBetweenNoneAndAlways) {
  for (std::uint64_t seed = 0; seed < kTrials; ++seed) {
    const Trial trial(seed);
    TestCosts costs = random_costs(seed, seed % 2 == 0);
    const double without = simulate(trial.passes(), costs).total_us;
    const OverlapSlowdown slowdown = random_slowdown(seed);
    TestCosts always([&](const Schedule& schedule, std::size_t index, const RankLoad& load) -> OperationCost {
      OperationCost cost = costs.cost(schedule, index, load);
      const StreamKind stream = schedule.operations[index].stream;
      if (stream == StreamKind::kCompute) cost.duration_us *= slowdown.compute;
      if (stream == StreamKind::kCommunication) cost.duration_us *= slowdown.communication;
      return cost;
    });
    always.differs = costs.differs;
    costs.linear = costs.hierarchical = slowdown;
    const double with = simulate(trial.passes(), costs).total_us;
    ASSERT_GE(with, without - kRounding) << trial.text();
    ASSERT_LE(with, simulate(trial.passes(), always).total_us + kRounding) << trial.text();
  }
}

// Faster links, with slowdowns: seen to hold for these schedules, where it need not for any (see
// simulator.h).
TEST(SimulatorProperty, FasterCommunicationNeverMakesAPassSlower) {
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    const Trial trial(seed);
    const double scale = PhiloxStream(seed, 8).uniform();
    TestCosts costs = random_costs(seed, seed % 4 == 0);
    TestCosts faster([&](const Schedule& schedule, std::size_t index, const RankLoad& load) -> OperationCost {
      OperationCost cost = costs.cost(schedule, index, load);
      if (schedule.operations[index].stream == StreamKind::kCommunication) cost.duration_us *= scale;
      return cost;
    });
    faster.differs = costs.differs;
    costs.linear = faster.linear = random_slowdown(seed);
    costs.hierarchical = faster.hierarchical = random_slowdown(seed + 1);
    ASSERT_LE(simulate(trial.passes(), faster).total_us, simulate(trial.passes(), costs).total_us + kRounding)
        << trial.text();
  }
}

TEST(SimulatorProperty, NeverBelowTheBusiestStreamAndAccountsForAllTime) {
  for (std::uint64_t seed = 0; seed < kTrials; ++seed) {
    const Trial trial(seed);
    TestCosts costs = random_costs(seed, true);
    if (seed % 2 == 0) costs.linear = costs.hierarchical = random_slowdown(seed);
    const Simulation simulation = simulate(trial.passes(), costs);
    for (int rank = 0; rank < simulation.num_ranks; ++rank) {
      for (const StreamUse& use : stream_use(simulation, rank)) {
        double sum = use.busy_us;
        for (const double idle_us : use.idle_us) {
          ASSERT_GE(idle_us, -kRounding) << trial.text();
          sum += idle_us;
        }
        ASSERT_NEAR(sum, simulation.total_us, kRounding) << trial.text();
        ASSERT_LE(use.busy_us, simulation.total_us + kRounding) << trial.text();
      }
    }
  }
}

TEST(SimulatorProperty, TheCriticalPathIsAGaplessChainOfTheTotal) {
  for (std::uint64_t seed = 0; seed < kTrials; ++seed) {
    const Trial trial(seed);
    TestCosts costs = random_costs(seed, true);
    if (seed % 2 == 0) costs.linear = costs.hierarchical = random_slowdown(seed);
    const Simulation simulation = simulate(trial.passes(), costs);
    const CriticalPath path = critical_path(simulation);
    double end_us = 0;
    double sum = 0;
    for (const CriticalPath::Step& step : path.steps) {
      const OperationTimes& times =
          simulation.times[simulation.at(step.rank, static_cast<std::size_t>(step.operation))];
      ASSERT_EQ(times.begin_us, end_us) << trial.text();
      end_us = times.end_us;
    }
    ASSERT_EQ(end_us, simulation.total_us) << trial.text();
    for (const double us : path.kind_us) sum += us;
    ASSERT_NEAR(sum, simulation.total_us, kRounding) << trial.text();
  }
}

}  // namespace
}  // namespace flex::testing
