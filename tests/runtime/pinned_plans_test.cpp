#include "runtime/pinned_plans.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>

#include "base/error.h"
#include "runtime/adaptive_layer.h"
#include "runtime/launch.h"
#include "tests/base/expect_error.h"
#include "tests/runtime/scripted_policy.h"

namespace flex::testing {
namespace {

using namespace std::chrono_literals;

/// Sets FLEX_PLAN while no rank runs.
class PinScope {
 public:
  explicit PinScope(const char* plan) { setenv("FLEX_PLAN", plan, 1); }
  ~PinScope() { unsetenv("FLEX_PLAN"); }
  PinScope(const PinScope&) = delete;
  PinScope& operator=(const PinScope&) = delete;
};

std::optional<PlanPair> pinned_on_two_ranks() {
  std::optional<PlanPair> pinned;
  run_ranks({2, 2}, 60s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    const auto mine = pinned_plans_blocking(context);
    if (world.rank() == 0) pinned = mine;
  });
  return pinned;
}

TEST(PinnedPlans, AreThoseOfTheEnvironment) {
  EXPECT_EQ(pinned_on_two_ranks(), std::nullopt);
  {
    const PinScope scope("");
    EXPECT_EQ(pinned_on_two_ranks(), std::nullopt);
  }
  {
    const PinScope scope("r2 d4 2dh");
    const Plan plan = parse_plan("r2 d4 2dh");
    EXPECT_EQ(pinned_on_two_ranks(), (PlanPair{plan, plan}));
  }
  const PinScope scope("r2 d4/r2 2dh");
  EXPECT_EQ(pinned_on_two_ranks(), (PlanPair{parse_plan("r2 d4"), parse_plan("r2 2dh")}));
}

TEST(PinnedPlans, AreRefusedIfTheyAreNone) {
  const auto message = [](const char* plan) {
    const PinScope scope(plan);
    return message_of<InputError>([] { static_cast<void>(pinned_on_two_ranks()); });
  };
  EXPECT_EQ(message("fast"),
            "FLEX_PLAN: plan 'fast': 'fast' is unknown; a plan looks like 'r2 d4 2dh' (r 0 or more, d 1 or "
            "more, linear or 2dh)");
  EXPECT_EQ(message("r1 / r2"), "FLEX_PLAN: the backward plan 'r2 d1 linear' must use the forward plan's r1");
}

/// Two passes of a layer on two ranks under FLEX_PLAN; checks that no policy is asked.
ForwardResult run_pinned() {
  ForwardResult result;
  run_ranks({2, 2}, 60s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    ScriptedPolicy policy([](std::int64_t, const LayerLoad&) { return PlanPair{}; });
    policy.hash = static_cast<std::uint64_t>(world.rank());  // and nobody minds
    MoeLayer layer({.model_dim = 4, .hidden_dim = 4, .num_experts = 2}, context);
    AdaptiveLayer adaptive(layer, policy, 0, context);
    const Tensor x = Tensor::zeros(DType::kF32, {8, 4});
    Tensor y(DType::kF32, {8, 4});
    Tensor dx(DType::kF32, {8, 4});
    Stream stream(Device::cpu());
    for (int i = 0; i < 2; ++i) {
      const ForwardResult mine = adaptive.forward(x, y, {}, stream);
      adaptive.backward(y, dx, 0, stream);
      stream.synchronize_blocking();
      if (world.rank() == 0) result = mine;
    }
    EXPECT_TRUE(policy.asked.empty());
    EXPECT_TRUE(policy.told.empty());
    EXPECT_TRUE(adaptive.pinned().has_value());
  });
  return result;
}

TEST(PinnedPlans, RunWhateverThePolicySays) {
  const PinScope scope("d2 / d4 2dh");
  const ForwardResult result = run_pinned();
  EXPECT_EQ(result.plans, (PlanPair{parse_plan("d2"), parse_plan("d4 2dh")}));
  EXPECT_FALSE(result.plans_disagreed);
}

TEST(PinnedPlans, SayWhyTheyCannotRunAtALoad) {
  const PinScope scope("r3");
  EXPECT_EQ(
      message_of<InputError>([] { static_cast<void>(run_pinned()); }),
      "FLEX_PLAN: plan 'r3 d1 linear' cannot run with capacity 8: r3 does not divide the 1 rank(s) that "
      "share an expert; use r 0 or 1");
}

}  // namespace
}  // namespace flex::testing
