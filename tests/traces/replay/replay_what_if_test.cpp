#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "base/units.h"
#include "costmodel/layer_memory.h"
#include "tests/traces/replay/cases.h"
#include "traces/replay/replay.h"

/// What if: scenarios, limits, recorded plans, timelines.
namespace flex {
namespace {

using testing::generated;
using ::testing::HasSubstr;
using testing::of;
using testing::on_ndv4;
using testing::policies;
using testing::replay_one;

TEST(ReplayWhatIf, WhatIfsPointWhereTheyShould) {
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

TEST(ReplayWhatIf, OnlyPlansWithinTheMemoryLimitRun) {
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

// One byte less than the step of the largest capacity needs.
TEST(ReplayWhatIf, StepsThatDoNotFitAreCounted) {
  const IterationTrace trace = generated(ImbalanceWorkload::kDrift, 24, 0, 1);
  const ScenarioResult result = replay_one(trace, on_ndv4(), {});
  Cluster small = result.machine.cluster;
  const auto peak = static_cast<double>(result.policies.front().memory.peak_bytes);
  EXPECT_EQ(result.policies.front().memory.fits, true);
  small.device.memory_GiB = (peak - 1) / kBytesPerGiB;
  std::vector<ReplayedIteration> replayed(trace.iterations.size());
  const auto base =
      static_cast<std::int64_t>(result.machine.calibration.parameters.base_memory_GiB * kBytesPerGiB);
  const ReplayMemory memory = policy_result(kDefaultPolicy, result.trace, replayed, small, base).memory;
  EXPECT_EQ(memory.fits, false);
  EXPECT_GE(memory.infeasible_steps, 1);
  EXPECT_LT(memory.infeasible_steps, 24);
  small.device.memory_GiB = 0;
  EXPECT_FALSE(policy_result(kDefaultPolicy, result.trace, replayed, small, base).memory.fits) << "not known";
}

TEST(ReplayWhatIf, RecordedPlansRunAgain) {
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

TEST(ReplayWhatIf, PoliciesMayHaveAnotherModel) {
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

TEST(ReplayWhatIf, DrawsTheSlowestIterationOrTheOneThatIsAskedFor) {
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

TEST(ReplayWhatIf, SaysWhatCannotBeDrawn) {
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

TEST(ReplayWhatIf, NamesTheScenarioThatCannotBe) {
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
