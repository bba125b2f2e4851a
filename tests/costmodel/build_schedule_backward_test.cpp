#include <gmock/gmock.h>

#include "costmodel/build_schedule.h"
#include "tests/costmodel/cases.h"

/// Whole schedules of the backward pass, worked by hand.
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
                              .hidden_dim = 8,
                              .pass = Pass::kBackward};

std::vector<std::string> backward(const char* plan, const Workload& workload = kShared) {
  return lines_of(
      build_schedule(Part::kExpert, workload, parse_plan(plan), {.nodes = 2, .ranks_per_node = 2}));
}

TEST(BuildScheduleBackward, R0ScattersGradientsAndExchangesNothing) {
  EXPECT_THAT(
      backward("r0 d1 linear"),
      ElementsAre("0 compute decode_backward", "1 compute gate_backward", "2 compute expert_ffn_backward_fc2",
                  "3 compute expert_ffn_backward_data", "4 compute expert_ffn_backward_fc1",
                  "5 compute encode_backward", "6 communication scatter_gradients <- 4",
                  "7 communication reduce_gate_gradients <- 1"));
}

TEST(BuildScheduleBackward, R1Linear) {
  EXPECT_THAT(
      backward("r1 d1 linear"),
      ElementsAre("0 compute decode_backward", "1 communication dispatch/all_to_all <- 0",
                  "2 compute gate_backward", "3 compute dispatch/rows_to_experts <- 1",
                  "4 compute expert_ffn_backward_data", "5 compute combine/rows_from_experts",
                  "6 communication combine/all_to_all <- 5", "7 compute expert_ffn_backward_fc2",
                  "8 compute expert_ffn_backward_fc1", "9 compute encode_backward <- 6",
                  "10 communication scatter_gradients <- 8", "11 communication reduce_gate_gradients <- 2"));
}

TEST(BuildScheduleBackward, WeightsMayBeGatheredAgain) {
  Workload workload = kShared;
  workload.regather_weights = true;
  EXPECT_THAT(
      backward("r0 d1 linear", workload),
      ElementsAre("0 communication gather_weights", "1 compute decode_backward", "2 compute gate_backward",
                  "3 compute expert_ffn_backward_fc2", "4 compute expert_ffn_backward_data <- 0",
                  "5 compute expert_ffn_backward_fc1", "6 compute encode_backward",
                  "7 communication scatter_gradients <- 5", "8 communication reduce_gate_gradients <- 2"));
  EXPECT_EQ(backward("r2 d1 linear", workload), backward("r2 d1 linear")) << "r = s gathers nothing";
}

TEST(BuildScheduleBackward, R2InTwoChunks) {
  EXPECT_THAT(
      backward("r2 d2 linear"),
      ElementsAre("0 compute decode_backward", "1 communication dispatch/all_to_all#1of2 <- 0",
                  "2 communication dispatch/all_to_all#2of2 <- 0", "3 compute gate_backward",
                  "4 compute dispatch/rows_to_experts#1of2 <- 1", "5 compute expert_ffn_backward_data#1of2",
                  "6 compute combine/rows_from_experts#1of2", "7 communication combine/all_to_all#1of2 <- 6",
                  "8 compute dispatch/rows_to_experts#2of2 <- 2", "9 compute expert_ffn_backward_data#2of2",
                  "10 compute combine/rows_from_experts#2of2",
                  "11 communication combine/all_to_all#2of2 <- 10", "12 compute expert_ffn_backward_fc2",
                  "13 compute expert_ffn_backward_fc1", "14 compute combine/sum_copies#1of2 <- 7",
                  "15 compute combine/sum_copies#2of2 <- 11", "16 compute encode_backward",
                  "17 communication reduce_gate_gradients <- 3"));
}

TEST(BuildScheduleBackward, R1HierarchicalInTwoChunks) {
  EXPECT_THAT(
      backward("r1 d2 2dh"),
      ElementsAre(
          "0 compute decode_backward", "1 communication dispatch/node_copy#1of2 <- 0",
          "2 communication dispatch/node_all_to_all#1of2", "3 communication dispatch/rail_copy#1of2",
          "4 communication dispatch/rail_all_to_all#1of2", "5 communication dispatch/node_copy#2of2 <- 0",
          "6 communication dispatch/node_all_to_all#2of2", "7 communication dispatch/rail_copy#2of2",
          "8 communication dispatch/rail_all_to_all#2of2", "9 compute gate_backward",
          "10 compute dispatch/rows_to_experts#1of2 <- 4", "11 compute expert_ffn_backward_data#1of2",
          "12 compute combine/rows_from_experts#1of2", "13 communication combine/node_copy#1of2 <- 12",
          "14 communication combine/node_all_to_all#1of2", "15 communication combine/rail_copy#1of2",
          "16 communication combine/rail_all_to_all#1of2", "17 compute dispatch/rows_to_experts#2of2 <- 8",
          "18 compute expert_ffn_backward_data#2of2", "19 compute combine/rows_from_experts#2of2",
          "20 communication combine/node_copy#2of2 <- 19", "21 communication combine/node_all_to_all#2of2",
          "22 communication combine/rail_copy#2of2", "23 communication combine/rail_all_to_all#2of2",
          "24 compute expert_ffn_backward_fc2", "25 compute expert_ffn_backward_fc1",
          "26 compute encode_backward <- 23", "27 communication scatter_gradients <- 25",
          "28 communication reduce_gate_gradients <- 9"));
}

// Without postscore the gates' gradients come out of encode's backward pass.
TEST(BuildScheduleBackward, GateComesLastWhereItWeightsTheInput) {
  Workload workload = kShared;
  workload.is_postscore = false;
  EXPECT_THAT(
      backward("r0 d1 linear", workload),
      ElementsAre("0 compute decode_backward", "1 compute expert_ffn_backward_fc2",
                  "2 compute expert_ffn_backward_data", "3 compute expert_ffn_backward_fc1",
                  "4 compute encode_backward", "5 compute gate_backward",
                  "6 communication scatter_gradients <- 3", "7 communication reduce_gate_gradients <- 5"));
}

TEST(BuildScheduleBackward, OneRankTalksToNobody) {
  Workload workload = kShared;
  workload.world = 1;
  workload.regather_weights = true;
  EXPECT_THAT(backward("r0 d1 linear", workload),
              ElementsAre("0 compute decode_backward", "1 compute gate_backward",
                          "2 compute expert_ffn_backward_fc2", "3 compute expert_ffn_backward_data",
                          "4 compute expert_ffn_backward_fc1", "5 compute encode_backward"));
}

}  // namespace
}  // namespace flex::testing
