#include "traces/replay/policy_replay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/traces/replay/cases.h"
#include "traces/replay/plan_sequence.h"

namespace flex {
namespace {

using ::testing::ElementsAre;
using testing::generated;
using testing::on_ndv4;

/// Writes down what it is called with.
class WritingPolicy final : public PlanPolicy {
 public:
  PlanPair choose(std::int64_t layer, const LayerLoad& load) override {
    calls.push_back("choose " + std::to_string(layer));
    loads.push_back(load);
    return {};
  }
  void observe(std::int64_t layer, const LayerLoad& load, const PlanPair& plans,
               const PassDurations& durations) override {
    calls.push_back("observe " + std::to_string(layer));
    observed.push_back(durations);
    EXPECT_EQ(plans, PlanPair{});
    EXPECT_GT(load.workload.num_tokens, 0);
  }
  [[nodiscard]] std::uint64_t state_hash() const override { return 0; }

  std::vector<std::string> calls;
  std::vector<LayerLoad> loads;
  std::vector<PassDurations> observed;
};

struct Outcome {
  std::vector<std::string> calls;
  std::vector<LayerLoad> loads;
  std::vector<PassDurations> observed;
  std::vector<ReplayedIteration> replayed;
};

Outcome run(const IterationTrace& trace, double noise = 0) {
  const ScenarioMachine machine = machine_of(on_ndv4(), 16);
  const CostModel costs(machine.cluster, machine.calibration.parameters);
  const ScenarioTrace scenario = scenario_trace(trace, on_ndv4(), machine.cluster, 0);
  OutcomeTable table(scenario.loads);
  LoadSimulator simulator(machine.cluster, costs);
  WritingPolicy policy;
  std::vector<ReplayedIteration> replayed =
      replay_policy(scenario, policy, table, simulator, {.sigma = noise, .seed = 5});
  return {std::move(policy.calls), std::move(policy.loads), std::move(policy.observed), std::move(replayed)};
}

// AdaptiveLayer feeds back what its last pass took just before it chooses again.
TEST(ReplayPolicyCalls, ALayerIsObservedWhenItRunsAgain) {
  EXPECT_THAT(run(generated(ImbalanceWorkload::kHotExperts, 2)).calls,
              ElementsAre("choose 0", "choose 1", "observe 0", "choose 0", "observe 1", "choose 1"));
}

TEST(ReplayPolicyCalls, PoliciesSeeWhatPassesTook) {
  const Outcome one = run(generated(ImbalanceWorkload::kHotExperts, 2, 0, 1));
  ASSERT_EQ(one.observed.size(), 1U);
  EXPECT_EQ(one.observed[0].forward_ns, std::llround(one.replayed[0].forward.duration_us * 1e3));
  EXPECT_EQ(one.observed[0].backward_ns, std::llround(one.replayed[0].backward.duration_us * 1e3));
  EXPECT_GT(one.replayed[0].backward.duration_us, 0);
}

TEST(ReplayPolicyCalls, WithoutABackwardRecordThereIsNoBackwardPass) {
  const Outcome one = run(generated(ImbalanceWorkload::kHotExperts, 2, 0, 1, false));
  EXPECT_EQ(one.observed[0].backward_ns, 0);
  EXPECT_EQ(one.replayed[0].backward, PassOutcome{});
}

TEST(ReplayPolicyCalls, NoiseChangesWhatIsSeenAndNotWhatItTook) {
  const IterationTrace trace = generated(ImbalanceWorkload::kHotExperts, 40, 0, 1);
  const Outcome exact = run(trace);
  const Outcome noisy = run(trace, 0.1);
  const Outcome again = run(trace, 0.1);
  EXPECT_EQ(noisy.observed, again.observed);
  double sum = 0;
  double squares = 0;
  for (std::size_t i = 0; i < noisy.observed.size(); ++i) {
    EXPECT_EQ(noisy.replayed[i].total_us(), exact.replayed[i].total_us());
    for (const auto pass : {&PassDurations::forward_ns, &PassDurations::backward_ns}) {
      const double log = std::log(static_cast<double>(noisy.observed[i].*pass) /
                                  static_cast<double>(exact.observed[i].*pass));
      sum += log;
      squares += log * log;
    }
  }
  const auto n = static_cast<double>(2 * noisy.observed.size());
  EXPECT_NEAR(sum / n, 0, 4 * 0.1 / std::sqrt(n)) << "four standard deviations of a mean";
  EXPECT_NEAR(std::sqrt(squares / n), 0.1, 0.035)
      << "four of a standard deviation of 78 draws: 0.1 / sqrt(2 n)";
}

TEST(ReplayPolicyCalls, LoadsAreThoseOfTheScenario) {
  const IterationTrace trace = generated(ImbalanceWorkload::kDrift, 3, 0, 1);
  const Outcome one = run(trace);
  ASSERT_EQ(one.loads.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    const LayerLoad expected = replay_load(trace.layer_of(trace.iterations[i]), trace.iterations[i].counts);
    EXPECT_EQ(one.loads[i].workload, expected.workload);
    EXPECT_EQ(one.loads[i].max_over_mean, expected.max_over_mean);
  }
}

}  // namespace
}  // namespace flex
