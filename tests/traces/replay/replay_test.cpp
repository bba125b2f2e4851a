#include "traces/replay/replay.h"

#include <gtest/gtest.h>

#include <cmath>

#include "costmodel/plan_space.h"
#include "costmodel/prediction.h"
#include "tests/traces/replay/cases.h"

namespace flex {
namespace {

using testing::generated;
using testing::of;
using testing::on_ndv4;
using testing::policies;
using testing::replay_one;

double sum(std::span<const double> values) {
  double total = 0;
  for (const double value : values) total += value;
  return total;
}

/// What the simulator says of one pass with the counts of a record.
double simulated_us(const IterationTrace& trace, const TraceIteration& iteration, const CostModel& costs,
                    const Cluster& cluster, const Plan& plan, Passes pass) {
  const TraceRecord record{.layer = iteration.layer,
                           .top_k = iteration.top_k,
                           .capacity_factor = iteration.capacity_factor,
                           .counts = iteration.counts};
  const LayerStack stack{.workload = workload_of(trace.header, record, Pass::kForward),
                         .forward = plan,
                         .backward = plan,
                         .cluster = cluster,
                         .passes = pass};
  const std::vector<std::int64_t> counts =
      iteration.counts.dense(stack.workload.world, stack.workload.num_experts);
  PassSequence sequence;
  sequence.build(stack, counts);
  return simulate(sequence.passes(), costs, {.fold = false}).total_us;
}

class StaticReplay : public ::testing::TestWithParam<ImbalanceWorkload> {};

// To the bit, whatever is left out because it changes nothing.
TEST_P(StaticReplay, TakesWhatTheSimulatorSaysOfEachRecord) {
  const Cluster cluster = load_cluster("azure_ndv4_a100", 2);
  const CostModel costs = cost_model_of(cluster);
  for (const double capacity_factor : {0.0, 1.25}) {
    const IterationTrace trace = generated(GetParam(), 3, capacity_factor);
    for (const char* text :
         {"r1 d1 linear", "r2 d4 2dh", "r0 d1 linear", "r1 d2 linear counted", "r2 d2 2dh counted"}) {
      const Plan plan = parse_plan(text);
      if (plan.expert_kernel == ExpertKernel::kCounted && capacity_factor > 0) continue;
      const std::string policy = std::string("static:") + text;
      const ScenarioResult result = replay_one(trace, on_ndv4(), {.policies = policies({policy.c_str()})});
      const PolicyResult& found = of(result, policy);
      for (std::size_t i = 0; i < trace.iterations.size(); ++i) {
        const TraceIteration& one = trace.iterations[i];
        const bool is_legal_here = is_legal(
            plan, result.trace.loads[static_cast<std::size_t>(result.trace.iterations[i].load)].load.workload,
            cluster);
        const Plan& runs = is_legal_here ? plan : kDefaultPlan;
        EXPECT_EQ(found.iteration_us[i],
                  simulated_us(trace, one, costs, cluster, runs, Passes::kForward) +
                      simulated_us(trace, one, costs, cluster, runs, Passes::kBackward))
            << text << " at iteration " << i;
      }
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Imbalances, StaticReplay,
                         ::testing::Values(ImbalanceWorkload::kBalanced, ImbalanceWorkload::kHotExperts,
                                           ImbalanceWorkload::kRaggedSources, ImbalanceWorkload::kZeroLoad));

// What `flexmoe simulate --pass forward` and `--pass backward` print.
TEST(Replay, AStaticPlanTakesWhatPredictionsSay) {
  const IterationTrace trace = generated(ImbalanceWorkload::kBalanced, 2, 1.25, 1);
  const Cluster cluster = load_cluster("azure_ndv4_a100", 2);
  const CostModel costs = cost_model_of(cluster);
  const Plan plan = parse_plan("r2 d2 2dh");
  const ScenarioResult result = replay_one(trace, on_ndv4(), {.policies = policies({"static:r2 d2 2dh"})});
  LayerStack stack{.workload = result.trace.loads.front().load.workload, .cluster = cluster};
  stack.passes = Passes::kForward;
  const PlanPrediction forward = PlanPredictor(stack, costs).predict(plan, plan);
  stack.passes = Passes::kBackward;
  const PlanPrediction backward = PlanPredictor(stack, costs).predict(plan, plan);
  const PolicyResult& found = of(result, "static:r2 d2 2dh");
  EXPECT_EQ(found.forward_us, 2 * forward.total_us);
  EXPECT_EQ(found.backward_us, 2 * backward.total_us);
  EXPECT_NEAR(found.error_us, 2 * (forward.error_us + backward.error_us), 1e-9 * found.error_us);
  stack.passes = Passes::kBoth;
  EXPECT_EQ(found.memory.peak_bytes, PlanPredictor(stack, costs).predict(plan, plan).memory_bytes);
}

TEST(Replay, PartsAddUpToTheTotal) {
  const ScenarioResult result =
      replay_one(generated(ImbalanceWorkload::kDrift, 12), on_ndv4(), {.policies = all_replay_policies({})});
  for (const PolicyResult& one : result.policies) {
    const double tolerance = 1e-9 * one.total_us;
    EXPECT_NEAR(sum(one.class_us), one.total_us, tolerance);
    EXPECT_NEAR(sum(one.origin_us), one.total_us, tolerance);
    EXPECT_NEAR(sum(one.iteration_us), one.total_us, tolerance);
    EXPECT_NEAR(one.forward_us + one.backward_us, one.total_us, tolerance);
    double layers = 0;
    std::int64_t changes = 0;
    for (const LayerTotals& layer : one.layers) {
      layers += layer.total_us;
      changes += layer.plan_changes;
    }
    EXPECT_NEAR(layers, one.total_us, tolerance);
    EXPECT_EQ(changes, one.plan_changes);
    std::int64_t iterations = 0;
    for (const PlanUse& use : one.plans) iterations += use.iterations;
    EXPECT_EQ(iterations, 24);
    EXPECT_GT(one.error_us, 0);
  }
}

// Every static pair by itself, none better than best-static; nothing better than the oracle, anywhere.
TEST(Replay, HindsightIsNeverBeaten) {
  for (const auto imbalance :
       {ImbalanceWorkload::kDrift, ImbalanceWorkload::kRotatingHotspot, ImbalanceWorkload::kRaggedSources}) {
    const IterationTrace trace = generated(imbalance, 10, 0, 1);
    std::vector<ReplayPolicy> all = all_replay_policies(trace);
    const Cluster cluster = load_cluster("azure_ndv4_a100", 2);
    const ScenarioTrace scenario = scenario_trace(trace, on_ndv4(), cluster, 0);
    const std::vector<Plan> plans = PlanSpace(scenario.loads.front().load.workload, cluster).plans();
    for (const Plan& forward : plans) {
      for (const Plan& backward : plans) {
        if (can_pair(forward, backward)) {
          all.push_back({.policy = {.kind = PolicyKind::kStatic, .plans = {forward, backward}}});
        }
      }
    }
    const ScenarioResult result = replay_one(trace, on_ndv4(), {.policies = all});
    const PolicyResult& best = of(result, "best-static");
    const PolicyResult& oracle = of(result, "oracle");
    ASSERT_TRUE(best.resolved);
    double least_static = best.total_us;
    for (const PolicyResult& one : result.policies) {
      for (std::size_t i = 0; i < trace.iterations.size(); ++i) {
        EXPECT_GE(one.iteration_us[i], oracle.iteration_us[i]) << to_string(one.policy) << " at " << i;
      }
      EXPECT_GE(*one.regret_us, 0);
      if (one.policy.policy.kind == PolicyKind::kStatic && one.policy.kind == ReplayPolicy::Kind::kPolicy) {
        // Sums in another order differ in the last bits.
        EXPECT_GE(one.total_us, best.total_us * (1 - 1e-12)) << to_string(one.policy);
        least_static = std::min(least_static, one.total_us);
      }
    }
    EXPECT_NEAR(best.total_us, least_static, 1e-12 * least_static);
  }
}

TEST(Replay, ComparesWithTheDefaultAndWithHindsight) {
  const ScenarioResult result =
      replay_one(generated(ImbalanceWorkload::kHotExperts, 4), on_ndv4(),
                 {.policies = policies({"best-static", "oracle", "static:r1 d8 2dh"})});
  const PolicyResult& base = of(result, "static:r1 d1 linear");
  EXPECT_EQ(&base, &result.policies.front()) << "always runs, and first";
  EXPECT_EQ(*base.speedup_over_default, 1);
  const PolicyResult& slow = of(result, "static:r1 d8 2dh");
  const PolicyResult& oracle = of(result, "oracle");
  EXPECT_EQ(*slow.speedup_over_default, base.total_us / slow.total_us);
  EXPECT_EQ(*slow.speedup_over_best_static, of(result, "best-static").total_us / slow.total_us);
  EXPECT_EQ(*slow.regret_us, slow.total_us - oracle.total_us);
  EXPECT_EQ(*slow.regret_share, *slow.regret_us / oracle.total_us);
  EXPECT_NEAR(*slow.layers[0].regret_us + *slow.layers[1].regret_us, *slow.regret_us, 1e-9 * slow.total_us);
  EXPECT_EQ(*oracle.regret_us, 0);
}

TEST(Replay, WithoutTheOracleNothingIsSaidOfRegret) {
  const ScenarioResult result =
      replay_one(generated(ImbalanceWorkload::kHotExperts, 2), on_ndv4(), {.policies = policies({"model"})});
  EXPECT_FALSE(result.policies.back().regret_us);
  EXPECT_FALSE(result.policies.back().speedup_over_best_static);
  EXPECT_TRUE(result.policies.back().speedup_over_default);
}

}  // namespace
}  // namespace flex
