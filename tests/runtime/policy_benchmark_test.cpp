#include "runtime/policy_benchmark.h"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <tuple>

#include "runtime/launch.h"
#include "runtime/moe_layer.h"
#include "runtime/routed_tokens.h"
#include "runtime/routing_choices.h"
#include "tests/base/expect_error.h"
#include "tests/runtime/scripted_policy.h"

namespace flex::testing {
namespace {

using namespace std::chrono_literals;

const PlanPair kOne{};
const PlanPair kTwo{{.pipeline_degree = 2}, {.pipeline_degree = 2}};

const PlanPair kCounted{{.expert_kernel = ExpertKernel::kCounted}, {.expert_kernel = ExpertKernel::kCounted}};

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

TEST(PolicyBenchmark, FollowsANamedImbalance) {
  PolicyBenchmark benchmark = small_benchmark();
  benchmark.config.num_experts = 16;
  benchmark.config.model_dim = 256;  // wide enough for every choice to come out as dealt
  benchmark.drift = 1;
  benchmark.iterations = 32;
  benchmark.top_k = 2;
  benchmark.imbalance = ImbalanceWorkload::kBurst;
  const auto fixed = [] {
    return std::make_unique<ScriptedPolicy>([](std::int64_t, const LayerLoad&) { return kOne; });
  };
  for (const PolicyComparison& comparison : compare_on_two_ranks(benchmark, {{"fixed", fixed, {}}})) {
    EXPECT_EQ(comparison.least_capacity, 100) << "800 tokens, 2 choices, 16 experts alike";
    // A burst's sixteenth of the experts is one; a token takes it once at most: half of its two choices.
    EXPECT_EQ(comparison.largest_capacity, 800);
  }
}

TEST(PolicyBenchmark, RunsEveryNamedImbalance) {
  for (int i = 0; i < kNumImbalanceWorkloads; ++i) {
    PolicyBenchmark benchmark = small_benchmark();
    benchmark.drift = 1;
    benchmark.imbalance = static_cast<ImbalanceWorkload>(i);
    SCOPED_TRACE(name(*benchmark.imbalance));
    const auto turning = [] {  // both plans are legal without any token too
      return std::make_unique<ScriptedPolicy>(
          [turn = 0](std::int64_t, const LayerLoad&) mutable { return turn++ % 2 == 0 ? kOne : kCounted; });
    };
    const auto comparisons = compare_on_two_ranks(benchmark, {{"turning", turning, {}}});
    EXPECT_FALSE(comparisons[0].runs[0].disagreed);
    EXPECT_EQ(comparisons[0].runs[0].num_changes, 9);
    EXPECT_EQ(comparisons[0].least_capacity == 0, benchmark.imbalance == ImbalanceWorkload::kZeroLoad);
  }
}

TEST(PolicyBenchmark, DealsExactlyTheGeneratedCounts) {
  PolicyBenchmark benchmark = small_benchmark();
  benchmark.config.num_experts = 16;
  benchmark.drift = 1;
  benchmark.num_tokens = 37;
  benchmark.top_k = 3;
  benchmark.imbalance = ImbalanceWorkload::kRaggedSources;
  for (int rank = 0; rank < 4; ++rank) {
    const RoutingChoices choices(benchmark, rank, 4);
    PhiloxStream random(5, static_cast<std::uint64_t>(rank));
    for (int iteration = 0; iteration < 4; ++iteration) {
      const std::vector<std::int64_t> drawn = choices.draw(iteration, random);
      const ImbalancePlace place{.seed = 1, .step = iteration, .num_steps = 10};
      ASSERT_EQ(drawn.size(),
                3 * static_cast<std::size_t>(source_tokens(*benchmark.imbalance, place, rank, 4, 37)));
      std::array<std::int64_t, 16> counts{};
      for (std::size_t token = 0; token < drawn.size(); token += 3) {
        EXPECT_NE(drawn[token], drawn[token + 1]);
        EXPECT_NE(drawn[token], drawn[token + 2]);
        EXPECT_NE(drawn[token + 1], drawn[token + 2]);
        for (std::size_t j = 0; j < 3; ++j) ++counts[static_cast<std::size_t>(drawn[token + j])];
      }
      const GenerateOptions generated{
          .imbalance = *benchmark.imbalance,
          .seed = 1,
          .num_steps = 10,
          .header = {
              .world = 4,
              .layers = {{.workload = {.world = 4, .num_experts = 16, .num_tokens = 37, .top_k = 3}}}}};
      const std::vector<std::int64_t> expected = generated_counts(generated, iteration, 0).dense(4, 16);
      for (std::size_t expert = 0; expert < counts.size(); ++expert) {
        EXPECT_EQ(counts[expert], expected[static_cast<std::size_t>(rank) * 16 + expert]);
      }
    }
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
  benchmark.imbalance = ImbalanceWorkload::kBurst;
  EXPECT_EQ(message(benchmark),
            "the imbalance W7 says by itself how the capacity moves; leave the drift of 4 out");
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
