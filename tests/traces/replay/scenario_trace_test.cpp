#include "traces/replay/scenario_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/traces/replay/cases.h"

namespace flex {
namespace {

using testing::counts_of;
using ::testing::ElementsAre;
using testing::generated;
using ::testing::HasSubstr;
using testing::header_of;
using testing::on_ndv4;

/// 2 ranks with an expert each, 4 tokens on a rank, k = 1.
IterationTrace two_ranks(std::vector<SparseCounts> steps, double capacity_factor) {
  const TraceLayer layer{.workload = {.world = 2,
                                      .num_experts = 2,
                                      .num_tokens = 4,
                                      .model_dim = 8,
                                      .hidden_dim = 16,
                                      .dropless = capacity_factor <= 0},
                         .capacity_factor = capacity_factor};
  IterationCollector collector(header_of({layer}, 2));
  std::int64_t step = 0;
  for (SparseCounts& counts : steps) collector.add({.step = step++, .counts = std::move(counts)});
  return std::move(collector).take();
}

const Cluster kTwoRanks{.nodes = 1, .ranks_per_node = 2};

ScenarioTrace two_ranks_at(double recorded, const char* change) {
  Scenario scenario;
  if (change != nullptr) set_change(scenario, change);
  return scenario_trace(two_ranks({counts_of({{3, 1}, {4, 0}})}, recorded), scenario, kTwoRanks, 0);
}

// C is floor(f ceil(4 / 2)). Counts are 3 and 1, 4 and 0.
TEST(ScenarioTrace, CountsWhatIsDroppedByHand) {
  const ScenarioTrace fixed = two_ranks_at(1, nullptr);
  EXPECT_EQ(fixed.loads.front().load.workload.capacity, 2);
  EXPECT_EQ(fixed.iterations.front().num_dropped, 3) << "1 of 3, 2 of 4";
  EXPECT_EQ(fixed.iterations.front().num_choices, 8);
  EXPECT_EQ(fixed.iterations.front().needed_capacity, 4);
  EXPECT_EQ(fixed.loads.front().load.max_over_mean, 1) << "counts do not change times";
  EXPECT_EQ(fixed.iterations.front().max_over_mean, 7.0 / 4);

  EXPECT_EQ(two_ranks_at(1, "capacity_factor=1.5").iterations.front().num_dropped, 1) << "C = 3";
  EXPECT_EQ(two_ranks_at(1, "capacity_factor=2").iterations.front().num_dropped, 0) << "C = 4";
  const ScenarioTrace dropless = two_ranks_at(1, "capacity_factor=0");
  EXPECT_EQ(dropless.loads.front().load.workload.capacity, 4) << "what is needed";
  EXPECT_TRUE(dropless.loads.front().load.workload.dropless);
  EXPECT_EQ(dropless.iterations.front().num_dropped, 0);
  EXPECT_EQ(dropless.loads.front().load.max_over_mean, 7.0 / 4);
}

// f = -1: up to C = 2 slots. Kept: 2 and 1, 2 and 0. The fullest expert has 4 of 5.
TEST(ScenarioTrace, ImbalanceIsOfWhatIsKept) {
  const ScenarioTrace limited = two_ranks_at(0, "capacity_factor=-1");
  EXPECT_EQ(limited.loads.front().load.workload.capacity, 2);
  EXPECT_EQ(limited.iterations.front().num_dropped, 3);
  EXPECT_EQ(limited.loads.front().load.max_over_mean, 4.0 * 2 / 5);
}

// k = 2 of 2 experts: everyone takes both.
TEST(ScenarioTrace, AnotherKChangesCountsAndCapacity) {
  const ScenarioTrace both = two_ranks_at(0, "k=2");
  EXPECT_EQ(both.loads.front().load.workload.top_k, 2);
  EXPECT_EQ(both.loads.front().load.workload.num_tokens, 4) << "as many tokens";
  EXPECT_EQ(both.loads.front().load.workload.capacity, 4);
  EXPECT_EQ(both.iterations.front().num_choices, 16);
  EXPECT_EQ(both.iterations.front().max_over_mean, 1);
}

TEST(ScenarioTrace, AnotherTypeAndExpertSizeChangeTheWorkload) {
  EXPECT_EQ(two_ranks_at(0, "dtype=fp16").loads.front().load.workload.dtype, DType::kF16);
  EXPECT_EQ(two_ranks_at(0, "hidden_dim=32").loads.front().load.workload.hidden_dim, 32);
}

TEST(ScenarioTrace, SaysWhatCannotBe) {
  const IterationTrace trace = generated(ImbalanceWorkload::kHotExperts, 1);
  const auto error_of = [&](std::initializer_list<const char*> changes, int world) {
    try {
      static_cast<void>(
          scenario_trace(trace, on_ndv4(changes), {.nodes = world / 8, .ranks_per_node = 8}, 0));
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(error_of({"k=9"}, 16), HasSubstr("top_k is 9; with 8 experts it is from 1 to 8"));
  EXPECT_THAT(error_of({"hidden_dim=33"}, 16),
              HasSubstr("not divisible by the 2 ranks that share an expert"));
  EXPECT_THAT(error_of({}, 24), HasSubstr("split cannot lay 16 ranks on 24"));
  EXPECT_THAT(error_of({"reshard=tile"}, 24), HasSubstr("hidden_dim 2048 is not divisible by the 3 ranks"));
  EXPECT_EQ(error_of({"reshard=tile"}, 32), "no error");
}

TEST(ScenarioTrace, LaysTheTraceOnTheRanksOfTheCluster) {
  const IterationTrace trace = generated(ImbalanceWorkload::kHotExperts, 2);
  const ScenarioTrace split = scenario_trace(trace, on_ndv4(), {.nodes = 4, .ranks_per_node = 8}, 0);
  EXPECT_EQ(split.header.world, 32);
  EXPECT_EQ(split.reshard, ReshardPolicy::kSplit);
  EXPECT_EQ(split.iterations.front().num_choices, 16 * 256 * 2) << "the same tokens";
  EXPECT_EQ(split.loads.front().load.workload.num_tokens, 128);
  const ScenarioTrace tiled =
      scenario_trace(trace, on_ndv4({"reshard=tile"}), {.nodes = 4, .ranks_per_node = 8}, 0);
  EXPECT_EQ(tiled.iterations.front().num_choices, 32 * 256 * 2) << "more of the same";
  const ScenarioTrace same = scenario_trace(trace, on_ndv4(), {.nodes = 2, .ranks_per_node = 8}, 0);
  EXPECT_FALSE(same.reshard);
}

TEST(ScenarioTrace, IterationsWithEqualLoadsShareOne) {
  const SparseCounts a = counts_of({{3, 1}, {4, 0}});
  const SparseCounts b = counts_of({{2, 2}, {4, 0}});
  const ScenarioTrace dropless = scenario_trace(two_ranks({a, b, a}, 0), {}, kTwoRanks, 0);
  ASSERT_EQ(dropless.loads.size(), 2U);
  EXPECT_THAT(
      (std::vector{dropless.iterations[0].load, dropless.iterations[1].load, dropless.iterations[2].load}),
      ElementsAre(0, 1, 0));
  const ScenarioTrace fixed = scenario_trace(two_ranks({a, b, a}, 1), {}, kTwoRanks, 0);
  EXPECT_EQ(fixed.loads.size(), 1U)
      << "a fixed capacity, ranks with equal tokens: times do not see the counts";
  EXPECT_TRUE(fixed.loads.front().counts.empty());
  EXPECT_NE(fixed.iterations[0].num_dropped, fixed.iterations[1].num_dropped);
  const SparseCounts ragged = counts_of({{1, 1}, {4, 0}});
  const ScenarioTrace uneven = scenario_trace(two_ranks({a, ragged}, 1), {}, kTwoRanks, 0);
  ASSERT_EQ(uneven.loads.size(), 2U);
  EXPECT_FALSE(uneven.loads[1].has_even_tokens);
  EXPECT_FALSE(uneven.loads[1].counts.empty());
}

TEST(ScenarioTrace, ARecordsOwnKAndCapacityCountUnlessTheScenarioChangesThem) {
  IterationTrace trace = two_ranks({counts_of({{2, 2}, {2, 2}})}, 1);
  trace.iterations.front().top_k = 2;
  trace.iterations.front().capacity_factor = 3;
  const ScenarioTrace recorded = scenario_trace(trace, {}, kTwoRanks, 0);
  EXPECT_EQ(recorded.loads.front().load.workload.num_tokens, 2);
  EXPECT_EQ(recorded.loads.front().load.workload.capacity, 2 * 3);
  Scenario other;
  set_change(other, "k=1");
  EXPECT_EQ(scenario_trace(trace, other, kTwoRanks, 0).loads.front().load.workload.num_tokens, 2);
}

TEST(ScenarioTrace, MapsExpertLoad) {
  const ScenarioTrace trace = scenario_trace(
      two_ranks({counts_of({{3, 1}, {4, 0}}), counts_of({{0, 4}, {0, 0}})}, 0), {}, kTwoRanks, 0);
  const ExpertLoadMap& map = trace.expert_load;
  EXPECT_THAT(map.layers, ElementsAre(0));
  EXPECT_THAT(map.first_step, ElementsAre(0, 1));
  ASSERT_EQ(map.choices.size(), 1U);
  EXPECT_THAT(map.choices[0], ElementsAre(ElementsAre(7, 1), ElementsAre(0, 4)));
}

TEST(ScenarioTrace, ExpertLoadIsBounded) {
  TraceLayer layer = testing::sixteen_ranks(0);
  layer.workload.num_experts = 144;  // 3 in a cell
  GenerateOptions options{.num_steps = 130, .backward = false, .header = header_of({20, layer})};
  options.header = generated_header(options);
  const ScenarioTrace trace =
      scenario_trace(testing::collect(options), {}, {.nodes = 2, .ranks_per_node = 8}, 0);
  const ExpertLoadMap& map = trace.expert_load;
  EXPECT_EQ(map.layers.size(), 16U);
  EXPECT_EQ(map.steps_per_bin, 3);
  EXPECT_EQ(map.first_step.size(), 44U);
  EXPECT_EQ(map.experts_per_cell, 3);
  ASSERT_EQ(map.choices[0].size(), 44U);
  EXPECT_EQ(map.choices[0][0].size(), 48U);
  std::int64_t all = 0;
  for (const std::int64_t cell : map.choices[0][0]) all += cell;
  EXPECT_EQ(all, 3 * 16 * 256 * 2) << "three steps of one layer";
}

}  // namespace
}  // namespace flex
