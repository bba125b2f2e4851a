#include "costmodel/traffic.h"

#include <gtest/gtest.h>

#include <set>
#include <string_view>

namespace flex::testing {
namespace {

// W = 4 ranks, E = 2 experts, so s = 2 ranks share one. C = 5 is rounded up to 6 slots, and a slice of
// fc2_bias is ceil(5 / 2) = 3 wide: two slices cover 6 columns, one more than there are. One expert has
// 2 * 8 * 5 + 8 = 88 elements beside its fc2_bias.
constexpr Workload kShared = {.world = 4,
                              .num_experts = 2,
                              .num_tokens = 16,
                              .capacity = 5,
                              .top_k = 2,
                              .model_dim = 5,
                              .hidden_dim = 8};

Workload backward(Workload workload) {
  workload.pass = Pass::kBackward;
  return workload;
}

std::int64_t bytes_of(Traffic traffic, const Workload& workload, const char* plan) {
  return expected_traffic(workload, parse_plan(plan))[static_cast<std::size_t>(traffic)];
}

TEST(ExpectedTraffic, ExchangesMoveRFoldTokens) {
  for (const Traffic traffic : {Traffic::kDispatch, Traffic::kCombine}) {
    EXPECT_EQ(bytes_of(traffic, kShared, "r0"), 0);
    EXPECT_EQ(bytes_of(traffic, kShared, "r1"), 2 * 6 * 5 * 4);
    EXPECT_EQ(bytes_of(traffic, kShared, "r2"), 2 * 6 * 5 * 4 * 2);
    EXPECT_EQ(bytes_of(traffic, kShared, "r2 d4 2dh"), 480) << "neither d nor the algorithm adds bytes";
    EXPECT_EQ(bytes_of(traffic, backward(kShared), "r2"), 480);
  }
  Workload halves = kShared;
  halves.dtype = DType::kBF16;
  EXPECT_EQ(bytes_of(Traffic::kDispatch, halves, "r1"), 120);
}

TEST(ExpectedTraffic, HierarchicalMovesThemInTheNodeToo) {
  for (const Traffic traffic : {Traffic::kDispatchIntra, Traffic::kCombineIntra}) {
    EXPECT_EQ(bytes_of(traffic, kShared, "r1 linear"), 0);
    EXPECT_EQ(bytes_of(traffic, kShared, "r1 2dh"), 240);
    EXPECT_EQ(bytes_of(traffic, backward(kShared), "r2 d2 2dh"), 480);
  }
}

TEST(ExpectedTraffic, WeightsAreGatheredWhereGroupsHaveMoreThanOneRank) {
  EXPECT_EQ(bytes_of(Traffic::kWeights, kShared, "r0"), 2 * (88 + 6) * 4);
  EXPECT_EQ(bytes_of(Traffic::kWeights, kShared, "r1"), (88 + 6) * 4);
  EXPECT_EQ(bytes_of(Traffic::kWeights, kShared, "r2"), 0);
  EXPECT_EQ(bytes_of(Traffic::kWeights, backward(kShared), "r1"), 0) << "kept from the forward pass";
  EXPECT_EQ(bytes_of(Traffic::kGradients, kShared, "r1"), 0);
  EXPECT_EQ(bytes_of(Traffic::kGradients, backward(kShared), "r0"), 752);
  EXPECT_EQ(bytes_of(Traffic::kGradients, backward(kShared), "r1"), 376);
  EXPECT_EQ(bytes_of(Traffic::kGradients, backward(kShared), "r2"), 0);
}

// s = 4 and r = 2: a group of two ranks gathers half of the hidden columns and two bias slices of
// ceil(5 / 4) = 2.
TEST(ExpectedTraffic, BetweenTheEndsAGroupGathersItsShare) {
  Workload one_expert = kShared;
  one_expert.num_experts = 1;
  one_expert.top_k = 1;
  EXPECT_EQ(bytes_of(Traffic::kWeights, one_expert, "r1"), (88 + 4 * 2) * 4);
  EXPECT_EQ(bytes_of(Traffic::kWeights, one_expert, "r2"), (44 + 2 * 2) * 4);
  EXPECT_EQ(bytes_of(Traffic::kWeights, one_expert, "r4"), 0);
  EXPECT_EQ(bytes_of(Traffic::kDispatch, one_expert, "r2"), 1 * 8 * 5 * 2 * 4) << "C 5 is rounded up to 8";
}

TEST(ExpectedTraffic, SettingsOfTheExpertCount) {
  Workload gated = kShared;
  gated.ffn = FfnKind::kGated;  // three matrices of 40 elements, no bias
  EXPECT_EQ(bytes_of(Traffic::kWeights, gated, "r1"), 120 * 4);
  EXPECT_EQ(bytes_of(Traffic::kWeights, gated, "r0"), 240 * 4);

  Workload frozen = kShared;
  frozen.train_fc2_bias = false;  // still gathered, no longer reduced
  EXPECT_EQ(bytes_of(Traffic::kWeights, frozen, "r1"), 94 * 4);
  EXPECT_EQ(bytes_of(Traffic::kGradients, backward(frozen), "r1"), 88 * 4);

  Workload removed = kShared;
  removed.fc2_bias = false;
  EXPECT_EQ(bytes_of(Traffic::kWeights, removed, "r1"), 88 * 4);
  EXPECT_EQ(bytes_of(Traffic::kGradients, backward(removed), "r1"), 88 * 4);
  removed.fc1_bias = false;
  EXPECT_EQ(bytes_of(Traffic::kWeights, removed, "r1"), 80 * 4);
}

TEST(ExpectedTraffic, WeightsGatheredAgainCountInTheBackwardPass) {
  Workload again = backward(kShared);
  again.regather_weights = true;
  EXPECT_EQ(bytes_of(Traffic::kWeights, again, "r0"), 752);
  EXPECT_EQ(bytes_of(Traffic::kWeights, again, "r1"), 376);
  EXPECT_EQ(bytes_of(Traffic::kWeights, again, "r2"), 0);
  EXPECT_EQ(bytes_of(Traffic::kGradients, again, "r1"), 376);
}

// With E >= W every rank holds whole experts: only r = 0 gathers.
TEST(ExpectedTraffic, WholeExpertsStayWhereTheyAre) {
  Workload whole = kShared;
  whole.num_experts = 8;
  EXPECT_EQ(bytes_of(Traffic::kDispatch, whole, "r1"), 8 * 5 * 5 * 4);
  EXPECT_EQ(bytes_of(Traffic::kWeights, whole, "r1"), 0);
  EXPECT_EQ(bytes_of(Traffic::kWeights, whole, "r0"), 8 * (88 + 5) * 4);
}

TEST(ExpectedTraffic, GateReducesItsLossForwardAndItsGradientsBackward) {
  EXPECT_EQ(bytes_of(Traffic::kGate, kShared, "r1"), (2 * 2 + 2) * 8);
  EXPECT_EQ(bytes_of(Traffic::kGate, backward(kShared), "r1"), 2 * 5 * 4);
  Workload changed = kShared;
  changed.global_loss_scope = false;
  EXPECT_EQ(bytes_of(Traffic::kGate, changed, "r1"), 0);
  changed.global_loss_scope = true;
  changed.gate_loss = false;
  EXPECT_EQ(bytes_of(Traffic::kGate, changed, "r1"), 0);

  changed.gate = GateKind::kCosine;  // P x M, P, P x E and the temperature
  changed.projection_dim = 7;
  EXPECT_EQ(bytes_of(Traffic::kGate, backward(changed), "r1"), (35 + 7 + 14 + 1) * 4);
  changed.dtype = DType::kF64;
  EXPECT_EQ(bytes_of(Traffic::kGate, backward(changed), "r1"), 57 * 8);
  changed.dtype = DType::kBF16;  // the gate stays in fp32
  EXPECT_EQ(bytes_of(Traffic::kGate, backward(changed), "r1"), 57 * 4);
}

TEST(ExpectedTraffic, OneRankAloneMovesNothing) {
  Workload alone = kShared;
  alone.world = 1;
  for (const char* plan : {"r0", "r1", "r1 d4 2dh"}) {
    EXPECT_EQ(expected_traffic(alone, parse_plan(plan)), TrafficBytes{}) << plan;
    EXPECT_EQ(expected_traffic(backward(alone), parse_plan(plan)), TrafficBytes{}) << plan;
  }
}

TEST(Traffic, NamesAreDistinct) {
  std::set<std::string_view> names;
  for (int i = 0; i < kNumTraffic; ++i) names.insert(name(static_cast<Traffic>(i)));
  EXPECT_EQ(names.size(), static_cast<std::size_t>(kNumTraffic));
  EXPECT_FALSE(names.contains("?"));
  EXPECT_EQ(name(Traffic::kDispatchIntra), "dispatch_intra");
}

}  // namespace
}  // namespace flex::testing
