#include "costmodel/workload.h"

#include <gtest/gtest.h>

#include "tests/support/compare.h"

namespace flex::testing {
namespace {

constexpr Workload kGood = {.world = 4,
                            .num_experts = 2,
                            .num_tokens = 16,
                            .capacity = 5,
                            .top_k = 2,
                            .model_dim = 5,
                            .hidden_dim = 8};

template <class Change>
std::string error_after(Change&& change) {
  Workload workload = kGood;
  change(workload);
  return error_text([&] { validate(workload); });
}

TEST(Workload, DerivesItsShapes) {
  EXPECT_EQ(kGood.shards(), 2);
  EXPECT_EQ(kGood.local_experts(), 1);
  EXPECT_EQ(kGood.padded_capacity(), 6);
  EXPECT_EQ(kGood.fc2_bias_slice(), 3);
  const Workload whole = {.world = 4, .num_experts = 8, .capacity = 5, .model_dim = 5};
  EXPECT_EQ(whole.shards(), 1);
  EXPECT_EQ(whole.local_experts(), 2);
  EXPECT_EQ(whole.padded_capacity(), 5);
  EXPECT_EQ(whole.fc2_bias_slice(), 5);
  const Workload even = {.world = 4, .num_experts = 4, .capacity = 0};
  EXPECT_EQ(even.shards(), 1);
  EXPECT_EQ(even.local_experts(), 1);
  EXPECT_EQ(even.padded_capacity(), 0);
}

TEST(Workload, AcceptsItsLimits) {
  EXPECT_NO_THROW(validate(kGood));
  EXPECT_NO_THROW(validate(Workload{}));
  Workload workload = kGood;
  workload.num_tokens = 0;
  workload.capacity = 0;
  workload.num_experts = 8;
  workload.top_k = 8;
  EXPECT_NO_THROW(validate(workload));
}

TEST(Workload, NamesTheFirstSizeThatCannotBe) {
  EXPECT_EQ(error_after([](Workload& w) { w.world = 0; }), "world size is 0; it is at least 1");
  EXPECT_EQ(error_after([](Workload& w) { w.num_experts = 0; }), "num_experts is 0; it is at least 1");
  EXPECT_EQ(error_after([](Workload& w) { w.num_experts = 3; }),
            "3 experts do not spread over 4 ranks: one must divide the other");
  EXPECT_EQ(error_after([](Workload& w) { w.num_experts = 6; }),
            "6 experts do not spread over 4 ranks: one must divide the other");
  EXPECT_EQ(error_after([](Workload& w) { w.model_dim = 0; }), "model_dim is 0; it is at least 1");
  EXPECT_EQ(error_after([](Workload& w) { w.hidden_dim = -8; }), "hidden_dim is -8; it is at least 1");
  EXPECT_EQ(error_after([](Workload& w) { w.hidden_dim = 7; }),
            "hidden_dim 7 is not divisible by the 2 ranks that share an expert");
  EXPECT_EQ(error_after([](Workload& w) { w.num_tokens = -1; }), "num_tokens is -1; it is zero or more");
  EXPECT_EQ(error_after([](Workload& w) { w.capacity = -1; }), "capacity is -1; it is zero or more");
  EXPECT_EQ(error_after([](Workload& w) { w.top_k = 0; }), "top_k is 0; with 2 experts it is from 1 to 2");
  EXPECT_EQ(error_after([](Workload& w) { w.top_k = 3; }), "top_k is 3; with 2 experts it is from 1 to 2");
  EXPECT_EQ(error_after([](Workload& w) { w.dtype = DType::kI32; }), "dtype i32 is not a floating type");
  EXPECT_EQ(error_after([](Workload& w) {
              w.gate = GateKind::kCosine;
              w.projection_dim = 0;
            }),
            "projection_dim is 0; it is at least 1");
}

TEST(Workload, NamesItsKinds) {
  EXPECT_EQ(name(Pass::kForward), "forward");
  EXPECT_EQ(name(Pass::kBackward), "backward");
  EXPECT_EQ(name(GateKind::kLinear), "linear");
  EXPECT_EQ(name(GateKind::kCosine), "cosine");
}

}  // namespace
}  // namespace flex::testing
