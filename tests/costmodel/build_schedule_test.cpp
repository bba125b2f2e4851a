#include "costmodel/build_schedule.h"

#include <gmock/gmock.h>

#include "tests/costmodel/cases.h"
#include "tests/support/compare.h"

/// Whole schedules of the route and of the experts' forward pass, worked by hand.
namespace flex::testing {
namespace {

using ::testing::ElementsAre;

// Two ranks share an expert (s = 2); 4 ranks in nodes of 2.
constexpr Workload kShared = {.world = 4,
                              .num_experts = 2,
                              .num_tokens = 7,
                              .capacity = 5,
                              .top_k = 2,
                              .model_dim = 3,
                              .hidden_dim = 8};
const Cluster kNodes = {.nodes = 2, .ranks_per_node = 2};

Workload alone() {
  Workload workload = kShared;
  workload.world = 1;
  return workload;
}

std::vector<std::string> route(const Workload& workload) {
  return lines_of(build_schedule(Part::kRoute, workload, kDefaultPlan, kNodes));
}

std::vector<std::string> forward(const char* plan, const Workload& workload = kShared) {
  return lines_of(build_schedule(Part::kExpert, workload, parse_plan(plan), kNodes));
}

TEST(BuildSchedule, RouteWithLoss) {
  EXPECT_THAT(route(kShared), ElementsAre("0 host agree_tokens", "1 compute gate", "2 compute route",
                                          "3 compute gate_loss_sums", "4 communication reduce_gate_loss <- 3",
                                          "5 compute gate_loss_value <- 4"));
}

TEST(BuildSchedule, RouteWithoutLoss) {
  Workload workload = kShared;
  workload.gate_loss = false;
  EXPECT_THAT(route(workload), ElementsAre("0 host agree_tokens", "1 compute gate", "2 compute route"));
  workload.agree_on_tokens = false;
  EXPECT_THAT(route(workload), ElementsAre("0 compute gate", "1 compute route"));
}

TEST(BuildSchedule, RouteWithLocalLossReducesNothing) {
  Workload workload = kShared;
  workload.global_loss_scope = false;
  workload.gate_noise = true;
  EXPECT_THAT(route(workload),
              ElementsAre("0 host agree_tokens", "1 compute gate", "2 compute gate_noise", "3 compute route",
                          "4 compute gate_loss_sums", "5 compute gate_loss_value"));
}

// The counts come to the host while the loss is still being reduced.
TEST(BuildSchedule, RouteOfADroplessLayerEndsOnTheHost) {
  Workload workload = kShared;
  workload.dropless = true;
  EXPECT_THAT(route(workload),
              ElementsAre("0 host agree_tokens", "1 compute gate", "2 compute route",
                          "3 compute gate_loss_sums", "4 communication reduce_gate_loss <- 3",
                          "5 compute gate_loss_value <- 4", "6 host agree_capacity <- 2"));
}

TEST(BuildSchedule, RouteOfOneRankTalksToNobody) {
  Workload workload = alone();
  workload.dropless = true;
  EXPECT_THAT(route(workload), ElementsAre("0 compute gate", "1 compute route", "2 compute gate_loss_sums",
                                           "3 compute gate_loss_value", "4 host agree_capacity <- 1"));
}

TEST(BuildSchedule, R0GathersWeightsAndExchangesNothing) {
  EXPECT_THAT(forward("r0 d1 linear"), ElementsAre("0 communication gather_weights", "1 compute encode",
                                                   "2 compute expert_ffn <- 0", "3 compute decode"));
}

TEST(BuildSchedule, R1Linear) {
  EXPECT_THAT(
      forward("r1 d1 linear"),
      ElementsAre("0 communication gather_weights", "1 compute encode",
                  "2 communication dispatch/all_to_all <- 1", "3 compute dispatch/rows_to_experts <- 2",
                  "4 compute expert_ffn <- 0", "5 compute combine/rows_from_experts",
                  "6 communication combine/all_to_all <- 5", "7 compute decode <- 6"));
}

// r = s gathers nothing; two copies of the tokens leave, and their partial sums are added.
TEST(BuildSchedule, R2InTwoChunks) {
  EXPECT_THAT(
      forward("r2 d2 linear"),
      ElementsAre("0 compute encode", "1 communication dispatch/all_to_all#1of2 <- 0",
                  "2 communication dispatch/all_to_all#2of2 <- 0",
                  "3 compute dispatch/rows_to_experts#1of2 <- 1", "4 compute expert_ffn#1of2",
                  "5 compute combine/rows_from_experts#1of2", "6 communication combine/all_to_all#1of2 <- 5",
                  "7 compute dispatch/rows_to_experts#2of2 <- 2", "8 compute expert_ffn#2of2",
                  "9 compute combine/rows_from_experts#2of2", "10 communication combine/all_to_all#2of2 <- 9",
                  "11 compute combine/sum_copies#1of2 <- 6", "12 compute combine/sum_copies#2of2 <- 10",
                  "13 compute decode"));
}

TEST(BuildSchedule, R1HierarchicalInTwoChunks) {
  EXPECT_THAT(
      forward("r1 d2 2dh"),
      ElementsAre(
          "0 communication gather_weights", "1 compute encode",
          "2 communication dispatch/node_copy#1of2 <- 1", "3 communication dispatch/node_all_to_all#1of2",
          "4 communication dispatch/rail_copy#1of2", "5 communication dispatch/rail_all_to_all#1of2",
          "6 communication dispatch/node_copy#2of2 <- 1", "7 communication dispatch/node_all_to_all#2of2",
          "8 communication dispatch/rail_copy#2of2", "9 communication dispatch/rail_all_to_all#2of2",
          "10 compute dispatch/rows_to_experts#1of2 <- 5", "11 compute expert_ffn#1of2 <- 0",
          "12 compute combine/rows_from_experts#1of2", "13 communication combine/node_copy#1of2 <- 12",
          "14 communication combine/node_all_to_all#1of2", "15 communication combine/rail_copy#1of2",
          "16 communication combine/rail_all_to_all#1of2", "17 compute dispatch/rows_to_experts#2of2 <- 9",
          "18 compute expert_ffn#2of2", "19 compute combine/rows_from_experts#2of2",
          "20 communication combine/node_copy#2of2 <- 19", "21 communication combine/node_all_to_all#2of2",
          "22 communication combine/rail_copy#2of2", "23 communication combine/rail_all_to_all#2of2",
          "24 compute decode <- 23"));
}

TEST(BuildSchedule, OneRankComputesInChunksWithoutExchange) {
  EXPECT_THAT(forward("r1 d1 linear", alone()),
              ElementsAre("0 compute encode", "1 compute expert_ffn", "2 compute decode"));
  EXPECT_THAT(forward("r1 d2 linear", alone()), ElementsAre("0 compute encode", "1 compute expert_ffn#1of2",
                                                            "2 compute expert_ffn#2of2", "3 compute decode"));
  EXPECT_THAT(forward("r0 d1 linear", alone()),
              ElementsAre("0 compute encode", "1 compute expert_ffn", "2 compute decode"));
}

TEST(BuildSchedule, WholeExpertsGatherNothing) {
  Workload workload = kShared;
  workload.num_experts = 8;
  EXPECT_THAT(forward("r1 d1 linear", workload),
              ElementsAre("0 compute encode", "1 communication dispatch/all_to_all <- 0",
                          "2 compute dispatch/rows_to_experts <- 1", "3 compute expert_ffn",
                          "4 compute combine/rows_from_experts", "5 communication combine/all_to_all <- 4",
                          "6 compute decode <- 5"));
}

TEST(BuildSchedule, KeepsWhatItWasBuiltFrom) {
  const Schedule schedule = build_schedule(Part::kExpert, kShared, parse_plan("r2 d2 2dh"), kNodes);
  EXPECT_EQ(schedule.part, Part::kExpert);
  EXPECT_EQ(schedule.workload, kShared);
  EXPECT_EQ(schedule.plan, parse_plan("r2 d2 2dh"));
}

std::string build_error(Part part, const Workload& workload, const char* plan) {
  return error_text([&] { static_cast<void>(build_schedule(part, workload, parse_plan(plan), kNodes)); });
}

TEST(BuildSchedule, SaysWhatCannotRun) {
  EXPECT_EQ(build_error(Part::kExpert, kShared, "r4"),
            "plan 'r4 d1 linear' cannot run: r4 does not divide the 2 rank(s) that share an expert; use r 0, "
            "1 or 2");
  Workload workload = kShared;
  workload.hidden_dim = 7;
  EXPECT_EQ(build_error(Part::kExpert, workload, "r1"),
            "hidden_dim 7 is not divisible by the 2 ranks that share an expert");
  workload = kShared;
  workload.pass = Pass::kBackward;
  EXPECT_EQ(build_error(Part::kRoute, workload, "r1"),
            "the route part has a forward pass only; its backward is in the expert part");
}

}  // namespace
}  // namespace flex::testing
