#include "costmodel/pass_predictor.h"

#include <gtest/gtest.h>

#include "tests/costmodel/simulator_cases.h"

namespace flex::testing {
namespace {

LayerStack stack_of(Passes passes) {
  LayerStack stack{
      .workload =
          {.world = 1, .num_experts = 2, .num_tokens = 8, .capacity = 8, .model_dim = 4, .hidden_dim = 4},
      .passes = passes};
  stack.workload.agree_on_tokens = false;
  return stack;
}

TestCosts costs_of(double duration_us, double issue_us) {
  return TestCosts([=](const Schedule&, std::size_t, const RankLoad&) -> OperationCost {
    return {.duration_us = duration_us, .relative_error = 0.1, .issue_us = issue_us};
  });
}

// Queueing takes a tenth of what operations take: the host is far ahead when the backward pass begins, which
// by itself would wait for its first operation to be queued.
TEST(PassPredictor, ABackwardPassHasTheHostsLead) {
  PassPredictor predictor;
  const TestCosts costs = costs_of(10, 1);
  const PassTime backward = predictor.predict(stack_of(Passes::kBackward), costs);
  const double alone_us = predictor.alone().total_us;
  EXPECT_NEAR(backward.total_us, alone_us - 1, 1e-9);
  EXPECT_GT(backward.error_us, 0);
  const PassTime forward = predictor.predict(stack_of(Passes::kForward), costs);
  EXPECT_EQ(forward.total_us, predictor.alone().total_us);
}

// The host is the limit: there is no lead. The last operation of the forward pass runs for 1 us beside the
// first of the backward pass being queued.
TEST(PassPredictor, WhereTheHostIsTheLimitThereIsNone) {
  PassPredictor predictor;
  const PassTime backward = predictor.predict(stack_of(Passes::kBackward), costs_of(1, 10));
  EXPECT_NEAR(backward.total_us, predictor.alone().total_us - 1, 1e-9);
}

TEST(PassPredictor, WithoutAHostAPassIsWhatItIsByItself) {
  PassPredictor predictor;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    PhiloxStream random(seed, 3);
    LayerStack stack = random_stack(random);
    stack.num_layers = 1;
    stack.shared_gradient_bytes = 0;
    stack.passes = seed % 2 == 0 ? Passes::kForward : Passes::kBackward;
    const TestCosts costs = random_costs(seed, false);
    const PassTime time = predictor.predict(stack, costs);
    EXPECT_EQ(time.total_us, predictor.alone().total_us);
  }
}

}  // namespace
}  // namespace flex::testing
