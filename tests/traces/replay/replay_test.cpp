#include "traces/replay/replay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "costmodel/layer_memory.h"
#include "costmodel/plan_space.h"
#include "costmodel/prediction.h"
#include "tests/traces/replay/cases.h"

namespace flex {
namespace {

using testing::generated;
using ::testing::HasSubstr;
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

TEST(Replay, WhatIfsPointWhereTheyShould) {
  const IterationTrace trace = generated(ImbalanceWorkload::kHotExperts, 3);
  const auto total_us = [&](std::initializer_list<const char*> changes) {
    return replay_one(trace, on_ndv4(changes), {}).policies.front().total_us;
  };
  const double base_us = total_us({});
  EXPECT_LT(total_us({"inter_node_bandwidth=4x"}), base_us);
  EXPECT_GT(total_us({"inter_node_bandwidth=0.25x"}), base_us);
  EXPECT_GT(total_us({"intra_node_bandwidth=0.1x"}), base_us);
  EXPECT_LT(total_us({"k=1"}), base_us);
  EXPECT_LT(total_us({"capacity_factor=1"}), base_us) << "what does not fit is not moved";
  EXPECT_GT(total_us({"hidden_dim=8192"}), base_us);
  EXPECT_GT(total_us({"dtype=fp32"}), base_us);
  EXPECT_LT(total_us({"nodes=4"}), base_us * 1.5) << "half the tokens on each rank";
  EXPECT_NE(total_us({"cluster=dgx_h100"}), base_us);
}

TEST(Replay, OnlyPlansWithinTheMemoryLimitRun) {
  const IterationTrace trace = generated(ImbalanceWorkload::kHotExperts, 4);
  const ScenarioResult free = replay_one(trace, on_ndv4(), {.policies = all_replay_policies(trace)});
  const Workload& workload = free.trace.loads.front().load.workload;
  const std::int64_t least = layer_memory(workload, kDefaultPlan, kDefaultPlan, {}).total_bytes();
  const ScenarioResult tight =
      replay_one(trace, on_ndv4(), {.policies = all_replay_policies(trace), .memory_limit_bytes = least});
  for (const PolicyResult& one : tight.policies) {
    for (std::size_t i = 0; i < trace.iterations.size(); ++i) {
      const PlanPair& plans = one.plans[static_cast<std::size_t>(one.iteration_plan[i])].plans;
      const ReplayLoad& load = tight.trace.loads[static_cast<std::size_t>(tight.trace.iterations[i].load)];
      for (const Plan& plan : {plans.forward, plans.backward}) {
        EXPECT_TRUE(plan == kDefaultPlan ||
                    layer_memory(load.load.workload, plan, plan, {}).total_bytes() <= least)
            << to_string(one.policy) << ": " << to_string(plans);
      }
    }
  }
  EXPECT_GE(of(tight, "oracle").total_us, of(free, "oracle").total_us);
}

// Three quarters of what the default plan needs.
TEST(Replay, StepsThatDoNotFitAreCounted) {
  const IterationTrace trace = generated(ImbalanceWorkload::kDrift, 24, 0, 1);
  const ScenarioResult result = replay_one(trace, on_ndv4(), {});
  Cluster small = result.machine.cluster;
  const double peak = static_cast<double>(result.policies.front().memory.peak_bytes);
  EXPECT_EQ(result.policies.front().memory.fits, true);
  small.device.memory_GiB = (peak - 1) / (1024.0 * 1024 * 1024);
  std::vector<ReplayedIteration> replayed(trace.iterations.size());
  const auto base =
      static_cast<std::int64_t>(result.machine.calibration.parameters.base_memory_GiB * 1024 * 1024 * 1024);
  const ReplayMemory memory = policy_result(kDefaultPolicy, result.trace, replayed, small, base).memory;
  EXPECT_EQ(memory.fits, false);
  EXPECT_GE(memory.infeasible_steps, 1);
  EXPECT_LT(memory.infeasible_steps, 24);
  small.device.memory_GiB = 0;
  EXPECT_FALSE(policy_result(kDefaultPolicy, result.trace, replayed, small, base).memory.fits) << "not known";
}

TEST(Replay, RecordedPlansRunAgain) {
  IterationTrace trace = generated(ImbalanceWorkload::kHotExperts, 3, 0, 1);
  EXPECT_FALSE(
      std::ranges::count(all_replay_policies(trace), ReplayPolicy::Kind::kRecorded, &ReplayPolicy::kind));
  const char* plans[] = {"r1 d2 linear", "r2 d4 2dh", "r1 d1 linear"};
  for (std::size_t i = 0; i < 3; ++i) {
    trace.iterations[i].forward_plan = trace.iterations[i].backward_plan = parse_plan(plans[i]);
    trace.iterations[i].forward_ns = 1000;
    trace.iterations[i].backward_ns = 2500;
  }
  EXPECT_TRUE(
      std::ranges::count(all_replay_policies(trace), ReplayPolicy::Kind::kRecorded, &ReplayPolicy::kind));
  ScenarioResult result = replay_one(trace, on_ndv4(), {.policies = policies({"recorded"})});
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(to_string(of(result, "recorded")
                            .plans[static_cast<std::size_t>(of(result, "recorded").iteration_plan[i])]
                            .plans),
              plans[i]);
  }
  EXPECT_EQ(of(result, "recorded").measured_us, 3 * 3.5);
  EXPECT_EQ(of(result, "recorded").plan_changes, 2);
  trace.iterations[1].backward_ns.reset();
  result = replay_one(trace, on_ndv4({"cluster=dgx_h100", "nodes=1"}), {.policies = policies({"recorded"})});
  EXPECT_FALSE(of(result, "recorded").measured_us) << "one pass was not timed";
  EXPECT_EQ(to_string(of(result, "recorded")
                          .plans[static_cast<std::size_t>(of(result, "recorded").iteration_plan[1])]
                          .plans),
            "r1 d1 linear")
      << "8 ranks with an expert each have no r2";
}

TEST(Replay, PoliciesMayHaveAnotherModel) {
  const IterationTrace trace = generated(ImbalanceWorkload::kDrift, 20, 0, 1);
  const auto run = [&](double error, std::uint64_t seed) {
    return of(replay_one(trace, on_ndv4(),
                         {.policies = policies({"model", "oracle"}), .model_error = error, .seed = seed}),
              "model");
  };
  EXPECT_EQ(run(0, 1).total_us, run(0, 2).total_us);
  bool differs = false;
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    const PolicyResult wrong = run(1.0, seed);
    EXPECT_GE(*wrong.regret_us, 0);
    differs = differs || wrong.total_us != run(0, 1).total_us;
  }
  EXPECT_TRUE(differs);
}

TEST(Replay, DrawsTheSlowestIterationOrTheOneThatIsAskedFor) {
  const IterationTrace trace = generated(ImbalanceWorkload::kHotExperts, 5);
  const ScenarioResult slowest = replay_one(trace, on_ndv4(), {.policies = policies({"online"})});
  ASSERT_TRUE(slowest.timeline);
  const PolicyResult& online = of(slowest, "online");
  EXPECT_EQ(slowest.timeline->total_us, *std::ranges::max_element(online.iteration_us));
  EXPECT_EQ(to_string(slowest.timeline->policy), "online");
  ReplayOptions options{.policies = policies({"static:r2 d4 2dh counted"})};
  options.timeline = {.policy = options.policies.front(), .step = 3, .layer = 1};
  const ScenarioResult chosen = replay_one(trace, on_ndv4(), options);
  ASSERT_TRUE(chosen.timeline);
  EXPECT_EQ(chosen.timeline->step, 3);
  EXPECT_EQ(chosen.timeline->layer, 1);
  EXPECT_EQ(chosen.timeline->ranks.size(), 8U) << "of 16, evenly picked";
  double end = 0;
  for (const TimelineSpan& span : chosen.timeline->spans) {
    EXPECT_LE(span.start_us, span.end_us);
    end = std::max(end, span.end_us);
  }
  EXPECT_LE(end, chosen.timeline->total_us * (1 + 1e-12));
  EXPECT_TRUE(
      std::ranges::any_of(chosen.timeline->spans, [](const auto& span) { return span.chunk.has_value(); }));
}

TEST(Replay, SaysWhatCannotBeDrawn) {
  const IterationTrace trace = generated(ImbalanceWorkload::kHotExperts, 1);
  const auto error_of = [&](const TimelineChoice& choice) {
    try {
      static_cast<void>(replay_one(trace, on_ndv4(), {.timeline = choice}));
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(error_of({.policy = parse_replay_policy("online")}),
            "a timeline of 'online' needs that policy to run: name it, too");
  EXPECT_EQ(error_of({.step = 7}), "a timeline of step 7, layer any: the trace has none");
}

TEST(Replay, NamesTheScenarioThatCannotBe) {
  const IterationTrace trace = generated(ImbalanceWorkload::kHotExperts, 1);
  const std::vector<Scenario> scenarios = {on_ndv4(), compared_scenario(on_ndv4(), "k=99")};
  try {
    static_cast<void>(replay(trace, scenarios, {}));
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("scenario 'k=99': "));
    EXPECT_THAT(error.what(), HasSubstr("top_k is 99"));
  }
}

TEST(ReplayPolicy, IsReadAndWritten) {
  for (const char* text :
       {"static:r1 d2 2dh", "best-static", "recorded", "oracle", "dictionary", "model", "online"}) {
    EXPECT_EQ(to_string(parse_replay_policy(text)), text);
  }
  try {
    static_cast<void>(parse_replay_policy("onlin"));
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("did you mean online?"));
    EXPECT_THAT(error.what(), HasSubstr("a replay also has best-static and recorded"));
  }
}

}  // namespace
}  // namespace flex
