#include "traces/replay/replay_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/traces/replay/cases.h"
#include "traces/replay/replay_series.h"

namespace flex {
namespace {

using ::testing::ElementsAre;
using testing::generated;
using testing::on_ndv4;
using Json = nlohmann::ordered_json;

Json document(const IterationTrace& trace, std::span<const Scenario> scenarios,
              const ReplayOptions& options) {
  return replay_json("run.jsonl", trace, replay(trace, scenarios, options), options);
}

TEST(ReplayJson, HasTheTraceAndTheOptions) {
  IterationTrace trace = generated(ImbalanceWorkload::kHotExperts, 3);
  trace.num_dropped = 4;
  trace.damage = "run.jsonl:9: cut off";
  trace.iterations[0].forward_ns = 5;
  const Scenario scenario = on_ndv4();
  const Json json =
      document(trace, {&scenario, 1}, {.noise = {.sigma = 0.1}, .seed = 7, .memory_limit_bytes = 1 << 30});
  EXPECT_EQ(json["flexmoe"], "replay");
  EXPECT_EQ(json["version"], 1);
  EXPECT_EQ(json["trace"]["file"], "run.jsonl");
  EXPECT_EQ(json["trace"]["source"], "generated");
  EXPECT_EQ(json["trace"]["origins"][0], "generated W1 seed 3");
  EXPECT_EQ(json["trace"]["iterations"], 6);
  EXPECT_EQ(json["trace"]["steps"], 3);
  EXPECT_EQ(json["trace"]["last_step"], 2);
  EXPECT_EQ(json["trace"]["timed_passes"], 1);
  EXPECT_EQ(json["trace"]["dropped_records"], 4);
  EXPECT_EQ(json["trace"]["damage"], "run.jsonl:9: cut off");
  EXPECT_EQ(json["trace"]["layers"][1]["experts"], 8);
  EXPECT_EQ(json["options"]["seed"], 7);
  EXPECT_EQ(json["options"]["noise"], 0.1);
  EXPECT_EQ(json["options"]["memory_limit_bytes"], 1 << 30);
}

TEST(ReplayJson, HasAPolicysFiguresAndSeries) {
  const IterationTrace trace = generated(ImbalanceWorkload::kDrift, 6);
  const Scenario scenario = on_ndv4({"k=1"});
  const ReplayOptions options{.policies = all_replay_policies(trace)};
  const std::vector<ScenarioResult> results = replay(trace, {&scenario, 1}, options);
  const Json one = replay_json("f", trace, results, options)["scenarios"][0];
  EXPECT_THAT(one["changes"], ElementsAre("k=1"));
  EXPECT_EQ(one["world"], 16);
  EXPECT_TRUE(one["reshard"].is_null());
  EXPECT_THAT(one["steps"]["first"], ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_EQ(one["policies"].size(), 6U);
  for (std::size_t p = 0; p < 6; ++p) {
    const Json& policy = one["policies"][p];
    const PolicyResult& result = results[0].policies[p];
    EXPECT_EQ(policy["policy"], to_string(result.policy));
    EXPECT_EQ(policy["total_us"], result.total_us);
    double series = 0;
    for (const Json& us : policy["series"]["total_us"]) series += us.get<double>();
    EXPECT_NEAR(series, result.total_us, 1e-9 * result.total_us);
    double regret = 0;
    for (const Json& us : policy["series"]["regret_us"]) regret += us.get<double>();
    EXPECT_NEAR(regret, policy["regret_us"].get<double>(), 1e-9 * result.total_us);
    for (std::size_t layer = 0; layer < 2; ++layer) {
      for (std::size_t step = 0; step < 6; ++step) {
        const auto index = policy["series"]["plan"][layer][step].get<std::size_t>();
        EXPECT_EQ(
            policy["plans"][index]["plans"],
            to_string(result.plans[static_cast<std::size_t>(result.iteration_plan[2 * step + layer])].plans));
      }
    }
    EXPECT_EQ(policy["class_us"].size(), 6U);
  }
  EXPECT_EQ(one["policies"][1]["policy"], "best-static");
  EXPECT_TRUE(one["policies"][1]["resolved"].is_string());
  EXPECT_EQ(one["needed_capacity"][0][2], results[0].trace.iterations[4].needed_capacity);
  double share = 0;
  for (const Json& cell : one["expert_load"]["share"][0][0]) share += cell.get<double>();
  EXPECT_NEAR(share, 1, 1e-12);
  EXPECT_EQ(one["timeline"]["policy"], "online");
  EXPECT_FALSE(one["timeline"]["spans"].empty());
}

TEST(ReplayJson, HasAScalingListOnlyOfSeveralSizes) {
  const IterationTrace trace = generated(ImbalanceWorkload::kDrift, 2);
  const std::vector<Scenario> scenarios = {on_ndv4(), compared_scenario(on_ndv4(), "nodes=4")};
  const Json json = document(trace, scenarios, {});
  ASSERT_EQ(json["scaling"].size(), 2U);
  EXPECT_EQ(json["scaling"][1]["ranks"], 32);
  EXPECT_EQ(json["scaling"][1]["total_us"], json["scenarios"][1]["policies"][0]["total_us"]);
  EXPECT_EQ(json["scenarios"][1]["reshard"], "split");
  EXPECT_TRUE(document(trace, std::span(scenarios).first(1), {})["scaling"].empty());
}

/// Steps 0 to `steps` - 1 of a layer, and every third step of a second one.
ScenarioTrace sparse_steps(std::int64_t steps) {
  ScenarioTrace trace;
  trace.header.layers.resize(2);
  for (std::int64_t step = 0; step < steps; ++step) {
    trace.steps.push_back(10 * step);
    for (std::int32_t layer = 0; layer < (step % 3 == 0 ? 2 : 1); ++layer) {
      trace.iterations.push_back({.step = 10 * step, .layer = layer, .needed_capacity = 100 * layer + step});
    }
  }
  return trace;
}

// 7 steps in at most 3 points: 3, 3 and 1 of them.
TEST(ReplaySeries, StepsShareAPointBeyondTheLimit) {
  const ScenarioTrace trace = sparse_steps(7);
  const SeriesPoints points = series_points(trace, 3);
  EXPECT_EQ(points.steps_per_point, 3);
  EXPECT_THAT(points.first_step, ElementsAre(0, 30, 60));
  EXPECT_THAT(points.num_steps, ElementsAre(3, 3, 1));
  EXPECT_THAT(points.of_iteration, ElementsAre(0, 0, 0, 0, 1, 1, 1, 1, 2, 2));
  // Steps 0 to 2 have 4 iterations of 1, 2, 3 and 6 us: 12 us over 3 steps.
  EXPECT_THAT(step_means(points, {1, 2, 3, 6, 1, 1, 1, 0, 5, 2}), ElementsAre(4, 1, 7));
  const auto needed =
      largest<std::int64_t>(trace, points, [](const auto& one) { return one.needed_capacity; });
  EXPECT_THAT(needed[0], ElementsAre(2, 5, 6));
  EXPECT_THAT(needed[1], ElementsAre(100, 103, 106));
}

TEST(ReplaySeries, ALayerWithoutIterationsInAPointHasNothingThere) {
  const ScenarioTrace trace = sparse_steps(4);
  const SeriesPoints points = series_points(trace);
  EXPECT_EQ(points.steps_per_point, 1);
  PolicyResult result;
  result.iteration_plan = {0, 1, 0, 0, 2, 1};
  const auto plans = first_plans(trace, points, result);
  EXPECT_THAT(plans[0], ElementsAre(0, 0, 0, 2));
  EXPECT_THAT(plans[1], ElementsAre(1, std::nullopt, std::nullopt, 1));
}

TEST(ReplaySeries, IsBounded) {
  EXPECT_EQ(series_points(sparse_steps(2000)).steps_per_point, 1);
  const SeriesPoints points = series_points(sparse_steps(2001));
  EXPECT_EQ(points.steps_per_point, 2);
  EXPECT_EQ(points.first_step.size(), 1001U);
}

}  // namespace
}  // namespace flex
