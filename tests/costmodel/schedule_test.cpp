#include "costmodel/schedule.h"

#include <gtest/gtest.h>

#include <set>
#include <string_view>

namespace flex::testing {
namespace {

TEST(OperationLabel, NamesDirectionKindAndChunk) {
  Operation operation = {
      .kind = OperationKind::kRailAllToAll, .direction = Direction::kDispatch, .chunk = 0, .num_chunks = 4};
  EXPECT_EQ(label(operation), "dispatch/rail_all_to_all#1of4");
  operation.chunk = 3;
  operation.direction = Direction::kCombine;
  EXPECT_EQ(label(operation), "combine/rail_all_to_all#4of4");
  operation.num_chunks = 1;
  operation.chunk = 0;
  EXPECT_EQ(label(operation), "combine/rail_all_to_all");
  EXPECT_EQ(label({.kind = OperationKind::kExpertFfn, .chunk = 1, .num_chunks = 2}), "expert_ffn#2of2");
  EXPECT_EQ(label({.kind = OperationKind::kGate}), "gate");
}

TEST(OperationKind, NamesAreDistinct) {
  std::set<std::string_view> names;
  for (int i = 0; i < kNumOperationKinds; ++i) names.insert(name(static_cast<OperationKind>(i)));
  EXPECT_EQ(names.size(), static_cast<std::size_t>(kNumOperationKinds));
  EXPECT_EQ(name(OperationKind::kAgreeTokens), "agree_tokens");
  EXPECT_EQ(name(OperationKind::kExpertFfnBackwardFc1), "expert_ffn_backward_fc1");
  EXPECT_EQ(name(OperationKind::kReduceGateGradients), "reduce_gate_gradients");
  EXPECT_EQ(name(OperationKind::kReduceSharedGradients), "reduce_shared_gradients");
}

TEST(StreamKind, HasNames) {
  EXPECT_EQ(name(StreamKind::kHost), "host");
  EXPECT_EQ(name(StreamKind::kCompute), "compute");
  EXPECT_EQ(name(StreamKind::kCommunication), "communication");
}

TEST(Operation, ListsWhatItWaitsFor) {
  const Operation none;
  EXPECT_TRUE(none.waits_for().empty());
  const Operation two = {.waits = {4, 7}, .num_waits = 2};
  ASSERT_EQ(two.waits_for().size(), 2U);
  EXPECT_EQ(two.waits_for()[1], 7);
  EXPECT_NE(none, two);
}

}  // namespace
}  // namespace flex::testing
