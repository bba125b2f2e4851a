#include <gmock/gmock.h>

#include "tests/tuner/policy_cases.h"
#include "tuner/cache_snapshot.h"
#include "tuner/online_policy.h"
#include "tuner/trial.h"

/// The online policy with decisions of the tuning cache.
namespace flex {
namespace {

using testing::load_at;
using testing::on_ndv4;
using testing::SimulatedMachine;
using testing::with_link;

/// A snapshot that holds decisions of both passes at `load`.
CacheSnapshot snapshot_of(const SearchProblem& problem, const LayerLoad& load, const PlanPair& plans,
                          bool is_complete) {
  TuningCase forward = case_of(load.workload);
  TuningCase backward = forward;
  backward.pass = Pass::kBackward;
  backward.given_degree = plans.forward.parallel_degree;
  const std::uint64_t layer = layer_id(layer_of(problem.workload));
  return {7,
          {{.layer = layer, .one = forward, .plan = plans.forward, .is_complete = is_complete},
           {.layer = layer, .one = backward, .plan = plans.backward, .is_complete = is_complete}}};
}

TEST(OnlinePolicy, StartsFromACompleteDecisionOfTheCache) {
  const SearchProblem problem = on_ndv4(4, 32);
  const CostModel truth = cost_model_of(problem.cluster);
  const LayerLoad load = load_at(problem, 1000);
  const PlanPair cached{parse_plan("r1 d8 linear"), parse_plan("r1 d4 2dh")};
  const CacheSnapshot complete = snapshot_of(problem, load, cached, true);
  OnlinePolicy policy({.cluster = problem.cluster, .costs = &truth, .snapshot = &complete, .environment = 7});
  SimulatedMachine machine(problem.cluster, 0.05, 6);
  for (int i = 0; i < 300; ++i) {
    const PlanPair plans = policy.choose(0, load);
    ASSERT_EQ(plans, cached);
    policy.observe(0, load, plans, machine.run(truth, load, plans));
  }
  EXPECT_TRUE(policy.explain(load)->is_settled);
  const CostModel after = with_link(truth, problem.cluster, 0.5);
  for (int i = 0; i < 300; ++i) {
    const PlanPair plans = policy.choose(0, load);
    policy.observe(0, load, plans, machine.run(after, load, plans));
  }
  EXPECT_FALSE(policy.explain(load)->is_settled) << "the machine has changed";
  EXPECT_NE(policy.choose(0, load), cached);
}

TEST(OnlinePolicy, PassesOverDecisionsThatDoNotFit) {
  const SearchProblem problem = on_ndv4(4, 32);
  const CostModel truth = cost_model_of(problem.cluster);
  const LayerLoad load = load_at(problem, 1000);
  const PolicyContext context{.cluster = problem.cluster, .costs = &truth};
  const PlanPair cached{parse_plan("r1 d8 linear"), parse_plan("r1 d4 2dh")};
  const PlanPair models = OnlinePolicy(context).choose(0, load);
  ASSERT_NE(models, cached);
  const auto chosen_with = [&](const CacheSnapshot& snapshot, std::uint64_t environment) {
    PolicyContext with = context;
    with.snapshot = &snapshot;
    with.environment = environment;
    return OnlinePolicy(with).choose(0, load);
  };
  EXPECT_EQ(chosen_with(snapshot_of(problem, load, cached, true), 7), cached);
  EXPECT_EQ(chosen_with(snapshot_of(problem, load, cached, true), 8), models) << "another environment";
  EXPECT_EQ(chosen_with(snapshot_of(problem, load, cached, false), 7), models) << "not complete";
  EXPECT_EQ(chosen_with(snapshot_of(problem, load_at(problem, 2000), cached, true), 7), models);
}

}  // namespace
}  // namespace flex
