#include "runtime/policy_benchmark.h"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <tuple>

#include "runtime/launch.h"
#include "runtime/moe_layer.h"
#include "runtime/routed_tokens.h"
#include "tests/base/expect_error.h"
#include "tests/runtime/scripted_policy.h"

namespace flex::testing {
namespace {

using namespace std::chrono_literals;

const PlanPair kOne{};
const PlanPair kTwo{{.pipeline_degree = 2}, {.pipeline_degree = 2}};

PolicyBenchmark small_benchmark() {
  return {.config = {.model_dim = 16, .hidden_dim = 8, .num_experts = 8},
          .num_tokens = 800,
          .top_k = 1,
          .iterations = 10,
          .drift = 4};
}

std::array<PolicyComparison, 2> compare_on_two_ranks(const PolicyBenchmark& benchmark,
                                                     const std::vector<ComparedPolicy>& policies) {
  std::array<PolicyComparison, 2> comparisons;
  run_ranks({2, 2}, 60s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    comparisons[static_cast<std::size_t>(world.rank())] = compare_policies(benchmark, policies, context);
  });
  return comparisons;
}

TEST(PolicyBenchmark, RunsEachPolicyOnTheSameDriftingTokens) {
  const auto fixed = [] {
    return std::make_unique<ScriptedPolicy>([](std::int64_t, const LayerLoad&) { return kOne; });
  };
  // Two plans in turns of 3: 1 1 1 2 2 2 1 1 1 2.
  const auto turning = [] {
    return std::make_unique<ScriptedPolicy>(
        [turn = 0](std::int64_t, const LayerLoad&) mutable { return turn++ / 3 % 2 == 0 ? kOne : kTwo; });
  };
  const auto num_told = [](const PlanPolicy& policy) {
    return static_cast<std::int64_t>(dynamic_cast<const ScriptedPolicy&>(policy).told.size());
  };
  const auto comparisons =
      compare_on_two_ranks(small_benchmark(), {{"fixed", fixed, {}}, {"turning", turning, num_told}});
  for (const PolicyComparison& comparison : comparisons) {
    ASSERT_EQ(comparison.runs.size(), 2);
    const auto& [first, second] = std::tie(comparison.runs[0], comparison.runs[1]);
    EXPECT_EQ(first.name, "fixed");
    ASSERT_EQ(first.plans.size(), 1);
    EXPECT_EQ(first.plans[0].plans, kOne);
    EXPECT_EQ(first.plans[0].iterations, 10);
    EXPECT_EQ(first.num_changes, 0);
    EXPECT_EQ(first.num_explored, std::nullopt);
    EXPECT_EQ(second.name, "turning");
    ASSERT_EQ(second.plans.size(), 2);
    EXPECT_EQ(second.plans[0].plans, kOne);
    EXPECT_EQ(second.plans[0].iterations, 6);
    EXPECT_EQ(second.plans[1].plans, kTwo);
    EXPECT_EQ(second.plans[1].iterations, 4);
    EXPECT_EQ(second.num_changes, 3);
    EXPECT_EQ(second.num_explored, 9) << "all iterations but the last were told";
    for (std::size_t i = 0; i < 2; ++i) {
      EXPECT_GT(comparison.runs[i].total_us, 0);
      EXPECT_EQ(comparison.runs[i].total_us, comparisons[0].runs[i].total_us);
      EXPECT_FALSE(comparison.runs[i].disagreed);
    }
    // Of 800 tokens an expert has 100 when they are even, give or take four standard deviations of 9.4 for
    // the fullest of 16 counts; expert 0 has 400 in the middle, give or take as many of 14.
    EXPECT_GE(comparison.least_capacity, 100);
    EXPECT_LE(comparison.least_capacity, 138);
    EXPECT_GE(comparison.largest_capacity, 344);
    EXPECT_LE(comparison.largest_capacity, 456);
  }
}

TEST(PolicyBenchmark, SaysWhatCannotBe) {
  const auto message = [](const PolicyBenchmark& benchmark) {
    return message_of<InputError>([&] { static_cast<void>(compare_on_two_ranks(benchmark, {})); });
  };
  PolicyBenchmark benchmark = small_benchmark();
  benchmark.drift = 9;
  EXPECT_EQ(message(benchmark),
            "the capacity drifts by a factor of 9; with 8 experts and k = 1 it is from 1 to 8");
  benchmark = small_benchmark();
  benchmark.iterations = 0;
  EXPECT_EQ(message(benchmark), "0 iterations of 800 tokens; both are at least 1");
  benchmark = small_benchmark();
  benchmark.top_k = 9;
  EXPECT_EQ(message(benchmark), "top_k is 9; with 8 experts it is from 1 to 8");
  benchmark = small_benchmark();
  benchmark.config.gate = GateKind::kCosine;
  EXPECT_EQ(message(benchmark), "a drifting routing is made for the linear gate only");
}

TEST(RoutedTokens, GoWhereTheyAreTold) {
  run_ranks({1, 1}, 60s, [](Communicator& world) {
    const MoeConfig config{.model_dim = 256, .hidden_dim = 8, .num_experts = 6};
    RankContext context(world, Device::cpu());
    MoeLayer layer(config, context);
    PhiloxStream random(4);
    const std::vector<std::int64_t> choices = {0, 5, 3, 1, 2, 4, 5, 0};  // (4, 2)
    const Tensor x =
        routed_tokens(choices, 2, layer.parameters().at("gate.wg.weight").value, DType::kF32, random);
    Tensor y(DType::kF32, x.shape());
    Stream stream(Device::cpu());
    static_cast<void>(layer.forward(x, y, {.top_k = 2}, stream));
    stream.synchronize_blocking();
    const auto* indices = static_cast<const std::int32_t*>(layer.routing().indices.data);
    EXPECT_EQ(std::vector<std::int64_t>(indices, indices + choices.size()), choices);
  });
}

}  // namespace
}  // namespace flex::testing
