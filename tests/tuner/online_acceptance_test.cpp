#include <gmock/gmock.h>

#include <algorithm>
#include <map>
#include <numbers>
#include <tuple>

#include "tests/tuner/policy_cases.h"
#include "tuner/fastest_pair.h"
#include "tuner/online_policy.h"

/// Runs of the online policy beside an oracle; the benchmark of plan policies has more of them.
namespace flex {
namespace {

using testing::disturbed;
using testing::load_at;
using testing::on_ndv4;
using testing::SimulatedMachine;
using testing::with_link;

/// Capacities that wander between a least one and 4.4 times it, with jitter.
std::int64_t capacity_at(std::int64_t least, int iteration, PhiloxStream& random) {
  const double wave = (1 - std::cos(2 * std::numbers::pi * iteration / 900.0)) / 2;
  const double growth = std::exp(std::log(4.4) * wave + 0.03 * random.normal());
  // In steps, so that fewer loads are simulated.
  return std::max<std::int64_t>(std::llround(growth * static_cast<double>(least) / 32), 1) * 32;
}

/// What a run of a policy took, by the truth.
struct RunTotals {
  double policy_us = 0;
  double oracle_us = 0;
  double default_us = 0;
};

/// One layer, whose links between nodes change their speed in the middle.
class OnlineRun {
 public:
  OnlineRun(const SearchProblem& problem, double link_factor, std::uint64_t seed)
      : problem_(problem),
        before_(cost_model_of(problem.cluster)),
        after_(with_link(before_, problem.cluster, link_factor)),
        model_(disturbed(before_, problem.cluster, 0.15, seed)),
        machine_(problem.cluster, 0, 0),
        noise_(seed, 1),
        jitter_(seed, 2) {}

  [[nodiscard]] PolicyContext context() const { return {.cluster = problem_.cluster, .costs = &model_}; }

  /// Calls `after_each(iteration)`.
  template <class AfterEach>
  RunTotals run(PlanPolicy& policy, int num_iterations, const AfterEach& after_each) {
    RunTotals totals;
    for (int i = 0; i < num_iterations; ++i) {
      const bool changed = i >= num_iterations / 2;
      const LayerLoad load = load_at(problem_, capacity_at(problem_.workload.capacity, i, jitter_));
      const PlanPair plans = policy.choose(0, load);
      const double forward_us = truth_us(changed, load, plans.forward, Pass::kForward);
      const double backward_us = truth_us(changed, load, plans.backward, Pass::kBackward);
      totals.policy_us += forward_us + backward_us;
      totals.oracle_us += best_us(changed, load);
      totals.default_us += truth_us(changed, load, kDefaultPlan, Pass::kForward) +
                           truth_us(changed, load, kDefaultPlan, Pass::kBackward);
      const double noises[] = {std::exp(0.05 * noise_.normal()), std::exp(0.05 * noise_.normal())};
      policy.observe(
          0, load, plans,
          {std::llround(1e3 * forward_us * noises[0]), std::llround(1e3 * backward_us * noises[1])});
      after_each(i);
    }
    return totals;
  }

 private:
  double truth_us(bool changed, const LayerLoad& load, const Plan& plan, Pass pass) {
    double& us = known_us_[{changed, load.workload.capacity, plan, pass}];
    if (us == 0) us = machine_.truth_us(changed ? after_ : before_, load, plan, pass);
    return us;
  }
  double best_us(bool changed, const LayerLoad& load) {
    double& us = best_us_[{changed, load.workload.capacity}];
    if (us != 0) return us;
    std::vector<TimedPlan> timed;
    for (const Plan& plan : PlanSpace(load.workload, problem_.cluster).plans()) {
      for (const Pass pass : {Pass::kForward, Pass::kBackward}) {
        timed.push_back({plan, pass, truth_us(changed, load, plan, pass)});
      }
    }
    return us = fastest_pair(timed, Passes::kBoth)->total_us;
  }

  SearchProblem problem_;
  CostModel before_, after_, model_;
  SimulatedMachine machine_;
  PhiloxStream noise_, jitter_;
  std::map<std::tuple<bool, std::int64_t, Plan, Pass>, double> known_us_;
  std::map<std::pair<bool, std::int64_t>, double> best_us_;
};

/// A problem at a least capacity of its own.
SearchProblem problem_at(int nodes, std::int64_t experts, std::int64_t capacity) {
  SearchProblem problem = on_ndv4(nodes, experts);
  problem.workload.capacity = capacity;
  return problem;
}

struct Case {
  const char* name;
  int nodes;
  std::int64_t experts;
  std::int64_t capacity;
  double link_factor;
  std::uint64_t seed;
};
void PrintTo(const Case& one, std::ostream* out) { *out << one.name; }

class OnlineAcceptance : public ::testing::TestWithParam<Case> {};

// Within 3% of the oracle, the default plan never better beyond noise, and the share held at every moment.
TEST_P(OnlineAcceptance, StaysNearTheOracle) {
  const Case& one = GetParam();
  OnlineRun run(problem_at(one.nodes, one.experts, one.capacity), one.link_factor, one.seed);
  OnlinePolicy policy(run.context());
  const RunTotals totals = run.run(policy, 2000, [&](int iteration) {
    const OnlineStatistics now = policy.statistics();
    EXPECT_LE(static_cast<double>(now.explored_ns), 0.02 * static_cast<double>(now.total_ns))
        << "after iteration " << iteration;
  });
  EXPECT_LT(totals.policy_us, 1.03 * totals.oracle_us);
  EXPECT_LT(totals.policy_us, 1.01 * totals.default_us);
  const OnlineStatistics statistics = policy.statistics();
  EXPECT_EQ(statistics.iterations, 2000);
  EXPECT_LE(statistics.flaps, statistics.bucket_changes);
}

INSTANTIATE_TEST_SUITE_P(Machines, OnlineAcceptance,
                         ::testing::Values(Case{"two_nodes_half", 2, 8, 1024, 0.5, 21},
                                           Case{"two_nodes_twice", 2, 32, 512, 2, 22},
                                           Case{"eight_nodes_half", 8, 64, 256, 0.5, 23},
                                           Case{"shared_experts_twice", 16, 64, 512, 2, 24}));

}  // namespace
}  // namespace flex
