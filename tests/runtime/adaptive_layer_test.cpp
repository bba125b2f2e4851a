#include "runtime/adaptive_layer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>
#include <vector>

#include "base/error.h"
#include "costmodel/plan_space.h"
#include "runtime/launch.h"
#include "tests/base/expect_error.h"
#include "tests/runtime/scripted_policy.h"
#include "tests/support/layer_world.h"

/// A policy gets what it needs, all ranks run what it says, and a disagreement costs no more than the plan.
namespace flex::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

constexpr double kTolerance = 1e-11;  // as in plan_equality_test.cpp
constexpr double kLossGradient = 0.37;
constexpr std::int64_t kExperts = 2;
const PlanPair kDefault{};
const Plan kTwoParts{.pipeline_degree = 2};

/// Layers of one model on some ranks, beside what one rank computes.
struct Model {
  MoeConfig config{.model_dim = 6, .hidden_dim = 8, .num_experts = kExperts, .dtype = DType::kF64};
  ReferenceConfig reference = reference_config(config);
  ReferenceParameters parameters = random_parameters(reference, 5);
  std::vector<ReferenceTokens> tokens;

  explicit Model(int ranks) {
    std::vector<std::int64_t> counts;
    for (int rank = 0; rank < ranks; ++rank) counts.push_back(32 - 5 * rank);
    tokens = random_tokens(counts, config.model_dim, 6);
  }
  [[nodiscard]] ReferenceResult expected(const ForwardCall& call) const {
    return reference_layer(reference, parameters, reference_call(config, call, kLossGradient), tokens);
  }
};

/// One rank's layer; `policy` first, since it outlives the layer.
struct Rank {
  ScriptedPolicy policy;
  RankContext context;
  MoeLayer layer;
  AdaptiveLayer adaptive;
  Stream stream{Device::cpu()};

  Rank(Communicator& world, const Model& model, ScriptedPolicy::Choose choose)
      : policy(std::move(choose)),
        context(world, Device::cpu()),
        layer(model.config, context),
        adaptive(layer, policy, 0, context) {
    load_reference(layer, model.parameters);
  }
  RankOutput run(const Model& model, const ForwardCall& call) {
    return run_layer(adaptive, model.tokens[static_cast<std::size_t>(context.rank())], call, kLossGradient,
                     stream);
  }
};

PlanPair always_two_parts(std::int64_t /*layer*/, const LayerLoad& /*load*/) {
  return {kTwoParts, kTwoParts};
}

// Of the choices that all ranks route; nothing is dropped.
double max_over_mean_of(const ReferenceResult& result) {
  std::array<double, kExperts> counts{};
  double all = 0;
  for (const ReferenceRank& rank : result.ranks) {
    for (const std::int32_t expert : rank.indices) {
      counts[static_cast<std::size_t>(expert)] += 1;
      all += 1;
    }
  }
  return *std::ranges::max_element(counts) * kExperts / all;
}

class AdaptiveLayerOf : public ::testing::TestWithParam<int> {};

TEST_P(AdaptiveLayerOf, FeedsThePolicyAndRunsWhatItSays) {
  const int ranks = GetParam();
  const Model model(ranks);
  std::vector<ForwardCall> calls;
  std::vector<ReferenceResult> expected;
  for (std::uint64_t i = 0; i < 12; ++i) {
    calls.push_back({.top_k = 1 + static_cast<std::int64_t>(i % 2),
                     .capacity_factor = i % 3 == 0 ? 1.25 : 0.0,
                     .training = i % 4 != 3,
                     .iteration = i});
    expected.push_back(model.expected(calls.back()));
  }
  std::vector<std::vector<ScriptedPolicy::Told>> told(static_cast<std::size_t>(ranks));
  run_ranks({ranks, 2}, 60s, [&](Communicator& world) {
    const Cluster cluster = cluster_of({ranks, 2});
    std::size_t turn = 0;
    Rank rank(world, model, [&](std::int64_t /*layer*/, const LayerLoad& load) {
      const std::vector<Plan> plans = PlanSpace(load.workload, cluster).plans();
      const Plan plan = plans[turn++ * 5 % plans.size()];
      return PlanPair{plan, plan};
    });
    for (std::size_t i = 0; i < calls.size(); ++i) {
      const RankOutput output = rank.run(model, calls[i]);
      EXPECT_FALSE(output.result.plans_disagreed);
      if (calls[i].training) {
        const Difference difference =
            compare_rank(expected[i], static_cast<std::size_t>(world.rank()), output);
        EXPECT_LE(difference.error, kTolerance) << difference.where << ", iteration " << i;
      }
      ASSERT_EQ(rank.policy.asked.size(), i + 1);
      const ScriptedPolicy::Asked& asked = rank.policy.asked.back();
      EXPECT_EQ(output.result.plans, asked.plans);
      EXPECT_EQ(asked.load.workload.num_tokens, 32);
      EXPECT_EQ(asked.load.workload.capacity, expected[i].capacity);
      const bool dropless = calls[i].capacity_factor <= 0;
      EXPECT_DOUBLE_EQ(asked.load.max_over_mean, dropless ? max_over_mean_of(expected[i]) : 1);

      ASSERT_EQ(rank.policy.told.size(), i);
      if (i == 0) continue;
      const ScriptedPolicy::Told& last = rank.policy.told.back();
      EXPECT_EQ(last.load.workload, rank.policy.asked[i - 1].load.workload);
      EXPECT_EQ(last.load.max_over_mean, rank.policy.asked[i - 1].load.max_over_mean);
      EXPECT_EQ(last.plans, rank.policy.asked[i - 1].plans);
      EXPECT_GT(last.durations.forward_ns, 0);
      EXPECT_EQ(last.durations.backward_ns > 0, calls[i - 1].training);
    }
    told[static_cast<std::size_t>(world.rank())] = rank.policy.told;
  });
  for (const auto& of_rank : told) {
    for (std::size_t i = 0; i < of_rank.size(); ++i) {
      EXPECT_EQ(of_rank[i].durations, told[0][i].durations);
      EXPECT_EQ(of_rank[i].plans, told[0][i].plans);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, AdaptiveLayerOf, ::testing::Values(2, 4),
                         ::testing::PrintToStringParamName());

TEST(AdaptiveLayer, TellsTheTimeOfTheSlowestRank) {
  const Model model(2);
  constexpr auto kPause = 30ms;
  run_ranks({2, 2}, 60s, [&](Communicator& world) {
    // Under r0 weights travel, on the communication stream: rank 0 does not wait for what delays rank 1.
    Rank rank(world, model, [](std::int64_t, const LayerLoad&) {
      return PlanPair{{.parallel_degree = 0}, {.parallel_degree = 0}};
    });
    rank.layer.set_probe({.filter = [&](Schedule& schedule) {
      if (world.rank() == 1 && schedule.part == Part::kExpert && schedule.workload.pass == Pass::kForward) {
        rank.stream.enqueue([&] { std::this_thread::sleep_for(kPause); });
      }
    }});
    static_cast<void>(rank.run(model, {}));
    static_cast<void>(rank.run(model, {}));
    ASSERT_EQ(rank.policy.told.size(), 1);
    EXPECT_GE(rank.policy.told[0].durations.forward_ns, std::chrono::nanoseconds(kPause).count());
  });
}

TEST(AdaptiveLayer, LayersShareAPolicyThatKnowsThemByTheirIndex) {
  const Model model(2);
  run_ranks({2, 2}, 60s, [&](Communicator& world) {
    Rank rank(world, model, [](std::int64_t layer, const LayerLoad&) {
      const Plan plan{.parallel_degree = static_cast<std::int32_t>(1 - layer)};
      return PlanPair{plan, plan};
    });
    MoeLayer second(model.config, rank.context);
    AdaptiveLayer adaptive(second, rank.policy, 1, rank.context);
    const ReferenceTokens& tokens = model.tokens[static_cast<std::size_t>(world.rank())];
    for (int i = 0; i < 2; ++i) {
      EXPECT_EQ(rank.run(model, {}).result.plans.forward.parallel_degree, 1);
      const RankOutput output = run_layer(adaptive, tokens, {}, kLossGradient, rank.stream);
      EXPECT_EQ(output.result.plans.forward.parallel_degree, 0);
    }
    ASSERT_EQ(rank.policy.told.size(), 2);
    for (const std::int64_t layer : {0, 1}) {
      const ScriptedPolicy::Told& told = rank.policy.told[static_cast<std::size_t>(layer)];
      EXPECT_EQ(told.layer, layer);
      EXPECT_EQ(told.plans.forward.parallel_degree, 1 - layer);
    }
  });
}

/// Runs six iterations; before the fourth `plant` makes rank 1's policy differ. Returns what was logged.
std::string run_with_disagreement(const ForwardCall& call, const std::function<void(Rank&)>& plant) {
  const Model model(4);
  const ReferenceResult expected = model.expected(call);
  ::testing::internal::CaptureStderr();
  run_ranks({4, 2}, 60s, [&](Communicator& world) {
    Rank rank(world, model, always_two_parts);
    for (int i = 0; i < 6; ++i) {
      const bool planted = i >= 3;
      if (i == 3 && world.rank() == 1) plant(rank);
      const RankOutput output = rank.run(model, call);
      EXPECT_EQ(output.result.plans_disagreed, planted);
      EXPECT_EQ(rank.adaptive.disagreed(), planted);
      EXPECT_EQ(output.result.plans, planted ? kDefault : (PlanPair{kTwoParts, kTwoParts}));
      const Difference difference = compare_rank(expected, static_cast<std::size_t>(world.rank()), output);
      EXPECT_LE(difference.error, kTolerance) << difference.where << ", iteration " << i;
    }
    EXPECT_EQ(rank.policy.asked.size(), 3) << "it is no longer asked";
  });
  return ::testing::internal::GetCapturedStderr();
}

constexpr const char* kFallsBack =
    "flexmoe warning: layer 0: the policies of the ranks are in different states; from now on all run its "
    "default plan 'r1 d1 linear'\n";

TEST(AdaptiveLayer, PoliciesThatDifferEndInTheDefaultPlanOnAllRanks) {
  const auto plant = [](Rank& rank) { rank.policy.hash = 2; };
  EXPECT_EQ(run_with_disagreement({.capacity_factor = 1.25}, plant), kFallsBack);
  EXPECT_EQ(run_with_disagreement({.capacity_factor = 0}, plant), kFallsBack);
}

TEST(AdaptiveLayer, PoliciesThatComeApartByWhatTheyAreToldAreCaughtInTheSameIteration) {
  const auto plant = [](Rank& rank) { rank.policy.on_observe = [&rank] { rank.policy.hash = 2; }; };
  const std::string at_the_layer =
      "flexmoe warning: ranks choose plans from different states; all run the default 'r1 d1 linear'\n";
  EXPECT_EQ(run_with_disagreement({.capacity_factor = 1.25}, plant), at_the_layer + kFallsBack);
  EXPECT_EQ(run_with_disagreement({.capacity_factor = 0}, plant), at_the_layer + kFallsBack);
}

TEST(AdaptiveLayer, APolicyThatThrowsEndsThePeersToo) {
  const Model model(2);
  const auto run = [&](bool in_choose) {
    std::string message_of_peer;
    const std::string cause = message_of<CacheError>([&] {
      run_ranks({2, 2}, 60s, [&](Communicator& world) {
        const auto fail_here = [&] { throw CacheError("no plan left"); };
        Rank rank(world, model, [&](std::int64_t layer, const LayerLoad& load) {
          if (in_choose && world.rank() == 1 && rank.policy.asked.size() == 1) fail_here();
          return always_two_parts(layer, load);
        });
        if (!in_choose && world.rank() == 1) rank.policy.on_observe = fail_here;
        static_cast<void>(rank.run(model, {}));
        if (world.rank() == 1) {
          static_cast<void>(rank.run(model, {}));
        } else {
          message_of_peer = message_of<CommError>([&] { static_cast<void>(rank.run(model, {})); });
        }
      });
    });
    EXPECT_EQ(cause, "no plan left");
    EXPECT_THAT(message_of_peer, HasSubstr("rank 1 failed: the policy of layer 0: no plan left"));
  };
  run(true);
  run(false);
}

}  // namespace
}  // namespace flex::testing
