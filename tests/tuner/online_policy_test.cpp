#include "tuner/online_policy.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "tests/support/count_allocations.h"
#include "tests/tuner/policy_cases.h"
#include "tuner/policy.h"

namespace flex {
namespace {

using testing::disturbed;
using ::testing::HasSubstr;
using testing::kDefaultPlans;
using testing::load_at;
using testing::on_ndv4;
using testing::SimulatedMachine;
using testing::with_link;

TEST(OnlinePolicy, BeginsWithTheModelsChoice) {
  for (const SearchProblem& problem : {on_ndv4(2, 8), on_ndv4(16, 8), on_ndv4(4, 64)}) {
    const CostModel costs = cost_model_of(problem.cluster);
    const PolicyContext context{.cluster = problem.cluster, .costs = &costs};
    const LayerLoad load = load_at(problem, 1100);  // near the middle of its bucket
    SimulatedMachine machine(problem.cluster, 0, 1);
    const auto total_us = [&](const PlanPair& plans) {
      return machine.truth_us(costs, load, plans.forward, Pass::kForward) +
             machine.truth_us(costs, load, plans.backward, Pass::kBackward);
    };
    const PlanPair models = make_policy({.kind = PolicyKind::kModel}, context)->choose(0, load);
    EXPECT_LT(total_us(OnlinePolicy(context).choose(0, load)), 1.002 * total_us(models));
  }
}

// A link at half its speed is found within a few iterations, and never where nothing changes.
TEST(OnlinePolicy, ReopensWhenTheMachineChanges) {
  const SearchProblem problem = on_ndv4(4, 32);
  const CostModel before = cost_model_of(problem.cluster);
  const CostModel after = with_link(before, problem.cluster, 0.5);
  const CostModel model = disturbed(before, problem.cluster, 0.15, 5);
  const LayerLoad load = load_at(problem, 1000);
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    OnlinePolicy policy({.cluster = problem.cluster, .costs = &model});
    SimulatedMachine machine(problem.cluster, 0.05, seed);
    const auto iterate = [&](const CostModel& truth, int count) {
      for (int i = 0; i < count; ++i) {
        const PlanPair plans = policy.choose(0, load);
        policy.observe(0, load, plans, machine.run(truth, load, plans));
      }
      return policy.statistics().reopenings;
    };
    EXPECT_EQ(iterate(before, 400), 0);
    EXPECT_GE(iterate(after, 8), 1);
  }
}

TEST(OnlinePolicy, OneOutlierChangesNothing) {
  const SearchProblem problem = on_ndv4(4, 32);
  const CostModel costs = cost_model_of(problem.cluster);
  const LayerLoad load = load_at(problem, 1000);
  OnlinePolicy policy({.cluster = problem.cluster, .costs = &costs});
  SimulatedMachine machine(problem.cluster, 0.05, 3);
  for (int i = 0; i < 300; ++i) {
    const PlanPair plans = policy.choose(0, load);
    PassDurations durations = machine.run(costs, load, plans);
    if (i % 50 == 49) durations.forward_ns *= 20;
    policy.observe(0, load, plans, durations);
  }
  EXPECT_EQ(policy.statistics().reopenings, 0);
}

// Even where every plan but the default one is illegal, or kept from running, at some loads.
TEST(OnlinePolicy, PlansMayAlwaysRun) {
  const SearchProblem problem = on_ndv4(16, 8);
  const CostModel truth = cost_model_of(problem.cluster);
  PolicyContext context{.cluster = problem.cluster, .costs = &truth};
  context.may_run = [](const LayerLoad& load, const Plan& plan) {
    return plan == kDefaultPlan || load.workload.capacity * plan.parallel_degree < 64;
  };
  OnlinePolicy policy(context);
  PhiloxStream random(32);
  SimulatedMachine machine(problem.cluster, 0.05, 33);
  bool has_left_default = false;
  for (int i = 0; i < 600; ++i) {
    const LayerLoad load = load_at(problem, random.below(200));
    const PlanPair plans = policy.choose(i % 3, load);
    for (const Plan& plan : {plans.forward, plans.backward}) {
      EXPECT_TRUE(is_legal(plan, load.workload, problem.cluster)) << to_string(plan);
      EXPECT_TRUE(context.may_run(load, plan)) << to_string(plan) << " at " << load.workload.capacity;
    }
    EXPECT_TRUE(can_pair(plans.forward, plans.backward));
    has_left_default = has_left_default || plans != kDefaultPlans;
    policy.observe(i % 3, load, plans, machine.run(truth, load, plans));
  }
  EXPECT_TRUE(has_left_default);
}

TEST(OnlinePolicy, EqualCallsGiveEqualPlansAndHashes) {
  const SearchProblem problem = on_ndv4(2, 16);
  const CostModel truth = cost_model_of(problem.cluster);
  const CostModel model = disturbed(truth, problem.cluster, 0.15, 8);
  const PolicyContext context{.cluster = problem.cluster, .costs = &model};
  OnlinePolicy one(context);
  OnlinePolicy two(context);
  SimulatedMachine machine(problem.cluster, 0.05, 9);
  PhiloxStream random(10);
  for (int i = 0; i < 500; ++i) {
    const LayerLoad load = load_at(problem, 64 + random.below(2000), std::exp2(10 * random.uniform()));
    const std::int64_t layer = random.below(4);
    const PlanPair plans = one.choose(layer, load);
    ASSERT_EQ(two.choose(layer, load), plans);
    if (random.below(10) == 0) continue;  // it was never observed
    const PassDurations durations = machine.run(truth, load, plans);
    one.observe(layer, load, plans, durations);
    two.observe(layer, load, plans, durations);
    ASSERT_EQ(one.state_hash(), two.state_hash());
  }
  // Two passes of each range of loads have a residual of their own, and there is room for 128: some went.
  EXPECT_GT(one.statistics().models, 64);
}

// At one load there is one best pair; of pairs that noise cannot tell apart it stays with one.
TEST(OnlinePolicy, SettlesAtOneLoad) {
  for (const SearchProblem& problem : {on_ndv4(2, 8), on_ndv4(16, 8), on_ndv4(4, 64)}) {
    const CostModel truth = cost_model_of(problem.cluster);
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
      const CostModel model = disturbed(truth, problem.cluster, 0.15, seed);
      OnlinePolicy policy({.cluster = problem.cluster, .costs = &model});
      SimulatedMachine machine(problem.cluster, 0.05, seed);
      const LayerLoad load = load_at(problem, 1000);
      const auto iterate = [&](int count) {
        for (int i = 0; i < count; ++i) {
          const PlanPair plans = policy.choose(0, load);
          policy.observe(0, load, plans, machine.run(truth, load, plans));
        }
        return policy.statistics();
      };
      const OnlineStatistics early = iterate(200);
      const OnlineStatistics late = iterate(500);
      EXPECT_LE(late.switches - early.switches, 2);
      EXPECT_LE(late.flaps, 2);
    }
  }
}

// Bucket 8 holds 1,024 to 1,151; it is kept down to 992 and up to 1,183.
TEST(OnlinePolicy, KeepsItsBucketNearTheEdges) {
  const SearchProblem problem = on_ndv4(2, 8);
  const CostModel costs = cost_model_of(problem.cluster);
  OnlinePolicy policy({.cluster = problem.cluster, .costs = &costs});
  const auto changes_at = [&](std::int64_t capacity, double max_over_mean = 1) {
    (void)policy.choose(0, load_at(problem, capacity, max_over_mean));
    return policy.statistics().bucket_changes;
  };
  EXPECT_EQ(changes_at(1100), 0);
  EXPECT_EQ(changes_at(992), 0);
  EXPECT_EQ(changes_at(1183), 0);
  EXPECT_EQ(changes_at(1184), 1);
  EXPECT_EQ(changes_at(1120), 1) << "bucket 9 is kept down to 1,120";
  EXPECT_EQ(changes_at(1119), 2);
  EXPECT_EQ(changes_at(1119, 1.5), 2) << "imbalance bucket 0 ends at 1.41, and is kept up to 1.54";
  EXPECT_EQ(changes_at(1119, 1.6), 3);
  EXPECT_EQ(changes_at(1119, 1.35), 3) << "bucket 1 is kept down to 1.30";
  EXPECT_EQ(changes_at(1119, 1.2), 4);
}

TEST(OnlinePolicy, ChoosesInAKnownBucketWithoutAllocation) {
  const SearchProblem problem = on_ndv4(2, 8);
  const CostModel truth = cost_model_of(problem.cluster);
  OnlinePolicy policy({.cluster = problem.cluster, .costs = &truth});
  SimulatedMachine machine(problem.cluster, 0.05, 4);
  const LayerLoad loads[] = {load_at(problem, 1000), load_at(problem, 2000)};
  std::int64_t allocations = 0;
  for (int i = 0; i < 400; ++i) {
    const LayerLoad& load = loads[i / 3 % 2];
    const std::int64_t before = testing::num_allocations();
    const PlanPair plans = policy.choose(0, load);
    if (i >= 6) allocations += testing::num_allocations() - before;
    policy.observe(0, load, plans, machine.run(truth, load, plans));
  }
  EXPECT_EQ(allocations, 0);
  EXPECT_GT(policy.statistics().bucket_changes, 100) << "both ways were taken";
}

TEST(OnlinePolicy, ExplainsABucket) {
  const SearchProblem problem = on_ndv4(2, 8);
  const CostModel truth = cost_model_of(problem.cluster);
  OnlinePolicy policy({.cluster = problem.cluster, .costs = &truth});
  const LayerLoad load = load_at(problem, 1100);
  EXPECT_FALSE(policy.explain(load).has_value());
  const PlanPair plans = policy.choose(0, load);
  SimulatedMachine machine(problem.cluster, 0.05, 6);
  const double sigma_before =
      std::ranges::find(policy.explain(load)->candidates, true, &CandidateView::is_incumbent)->sigma_us;
  for (int i = 0; i < 20; ++i) policy.observe(0, load, plans, machine.run(truth, load, plans));
  const BucketView view = *policy.explain(load);
  EXPECT_EQ(view.least_capacity, 1024);
  EXPECT_EQ(view.largest_capacity, 1151);
  for (const CandidateView& one : view.candidates) {
    const double true_us = machine.truth_us(truth, load, one.plan, one.pass);
    EXPECT_NEAR(one.expected_us, true_us, 0.1 * true_us) << to_string(one.plan);
    const bool was_run = one.plan == plans.of(one.pass);
    EXPECT_EQ(one.num_observations, was_run ? 20 : 0) << to_string(one.plan);
  }
  const auto incumbent = std::ranges::find(view.candidates, true, &CandidateView::is_incumbent);
  ASSERT_NE(incumbent, view.candidates.end());
  EXPECT_LT(incumbent->sigma_us, sigma_before / 2);
  EXPECT_TRUE(std::ranges::any_of(view.candidates,
                                  [](const CandidateView& one) { return one.plan == kDefaultPlan; }));
}

// In inference only forward passes run: the backward plan is the forward one.
TEST(OnlinePolicy, ServesForwardPassesAlone) {
  const SearchProblem problem = on_ndv4(2, 8);
  const CostModel truth = cost_model_of(problem.cluster);
  OnlinePolicy policy({.cluster = problem.cluster, .costs = &truth, .passes = Passes::kForward});
  SimulatedMachine machine(problem.cluster, 0.05, 6);
  const LayerLoad load = load_at(problem, 1100);
  for (int i = 0; i < 200; ++i) {
    const PlanPair plans = policy.choose(0, load);
    ASSERT_EQ(plans.forward, plans.backward);
    PassDurations durations = machine.run(truth, load, plans);
    durations.backward_ns = 0;
    policy.observe(0, load, plans, durations);
  }
  double best_us = std::numeric_limits<double>::infinity();
  for (const Plan& plan : problem.plans) {
    best_us = std::min(best_us, machine.truth_us(truth, load, plan, Pass::kForward));
  }
  EXPECT_LT(machine.truth_us(truth, load, policy.choose(0, load).forward, Pass::kForward), 1.01 * best_us);
}

TEST(OnlinePolicy, SaysWhichSettingsCannotBe) {
  const SearchProblem problem = on_ndv4(2, 8);
  const CostModel costs = cost_model_of(problem.cluster);
  const auto error_of = [&](const OnlineSettings& settings) -> std::string {
    try {
      const OnlinePolicy policy({.cluster = problem.cluster, .costs = &costs, .online = settings});
    } catch (const InputError& error) {
      return error.what();
    }
    return "none";
  };
  EXPECT_THAT(error_of({.exploration_share = 1}), HasSubstr("exploration share 1: it is a share"));
  EXPECT_THAT(error_of({.parameter_error = 0}), HasSubstr("is 0; it is above 0"));
  EXPECT_THAT(error_of({.least_saving = -1}), HasSubstr("both are 0 or more"));
}

}  // namespace
}  // namespace flex
