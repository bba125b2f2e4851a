#include <gtest/gtest.h>

#include <chrono>
#include <map>

#include "costmodel/plan_space.h"
#include "runtime/launch.h"
#include "tests/support/layer_world.h"

/// Every plan gives what one rank gives: outputs, losses and all gradients, in double.
namespace flex::testing {
namespace {

using namespace std::chrono_literals;

// Sums of at most a few hundred terms of magnitude 1 in another order: some hundred ulps of double.
constexpr double kTolerance = 1e-11;
constexpr double kLossGradient = 0.37;
constexpr std::int64_t kTokens = 64;  // enough slots for d = 8 on 8 ranks that share one expert

struct World {
  int ranks;
  int ranks_per_node;
  std::int64_t experts;
};

std::ostream& operator<<(std::ostream& out, const World& w) {
  return out << "W" << w.ranks << "_nodes_of_" << w.ranks_per_node << "_E" << w.experts;
}

MoeConfig small_config(std::int64_t experts) {
  return {.model_dim = 6,  // not a multiple of the slices of fc2_bias
          .hidden_dim = 24,
          .num_experts = experts,
          .dtype = DType::kF64,
          .gate_noise = 1.0,
          .gate_loss = GateLossKind::kGshard,
          .z_loss_weight = 0.01,
          .seed = 5,
          .layer = 3};
}

/// One call: what is routed, without the plan.
struct Routing {
  std::int64_t top_k;
  double capacity_factor;
  bool noise;
};

// All pairs of k in 1..4 and f; the noise is on in every third of them, so that it meets every k and every f.
std::vector<Routing> routings(std::int64_t experts) {
  std::vector<Routing> all;
  for (std::int64_t k = 1; k <= std::min<std::int64_t>(4, experts); ++k) {
    for (const double f : {1.25, 0.5, 0.0, -1.0}) all.push_back({k, f, all.size() % 3 == 1});
  }
  return all;
}

/// Every legal plan, each with a backward plan of the same r and another d and algorithm.
std::vector<PlanPair> plan_pairs(const Workload& workload, const Cluster& cluster) {
  const std::vector<Plan> plans = PlanSpace(workload, cluster).plans();
  std::vector<PlanPair> pairs;
  for (std::size_t i = 0; i < plans.size(); ++i) {
    std::vector<Plan> same;
    for (const Plan& plan : plans) {
      if (can_pair(plan, plans[i])) same.push_back(plan);
    }
    pairs.push_back({plans[i], same[(i * 3 + 1) % same.size()]});
  }
  return pairs;
}

class PlanEquality : public ::testing::TestWithParam<World> {};

TEST_P(PlanEquality, OutputsLossesAndGradientsEqualTheOneRankResult) {
  const auto [ranks, ranks_per_node, experts] = GetParam();
  const MoeConfig config = small_config(experts);
  const ReferenceConfig reference = reference_config(config);
  const ReferenceParameters parameters = random_parameters(reference, 11);
  std::vector<std::int64_t> counts;
  for (int rank = 0; rank < ranks; ++rank)
    counts.push_back(kTokens - 3 * (rank % 3));  // unequal token counts
  const std::vector<ReferenceTokens> tokens = random_tokens(counts, config.model_dim, 7);

  std::vector<ForwardCall> calls;
  std::map<std::size_t, ReferenceResult> expected;  // by call
  const std::vector<Routing> all = routings(experts);
  for (std::size_t i = 0; i < all.size(); ++i) {
    ForwardCall call{.top_k = all[i].top_k,
                     .capacity_factor = all[i].capacity_factor,
                     .add_noise = all[i].noise,
                     .iteration = i};
    const ReferenceResult result =
        reference_layer(reference, parameters, reference_call(config, call, kLossGradient), tokens);
    Workload workload = workload_of(config, ranks);
    workload.num_tokens = kTokens;
    workload.top_k = call.top_k;
    workload.capacity = result.capacity;
    workload.dropless = call.capacity_factor <= 0;
    for (const PlanPair& pair : plan_pairs(workload, cluster_of({ranks, ranks_per_node}))) {
      call.plans = pair;
      expected.emplace(calls.size(), result);
      calls.push_back(call);
    }
  }

  std::vector<std::vector<RankOutput>> outputs(calls.size(),
                                               std::vector<RankOutput>(static_cast<std::size_t>(ranks)));
  run_ranks({ranks, ranks_per_node}, 60s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    MoeLayer layer(config, context);
    layer.set_probe({.poison_buffers = true});
    load_reference(layer, parameters);
    Stream stream(Device::cpu());
    const auto rank = static_cast<std::size_t>(world.rank());
    for (std::size_t i = 0; i < calls.size(); ++i) {
      outputs[i][rank] = run_layer(layer, tokens[rank], calls[i], kLossGradient, stream);
    }
  });
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const Difference difference = compare(expected.at(i), outputs[i]);
    EXPECT_LE(difference.error, kTolerance)
        << difference.where << ", forward " << to_string(calls[i].plans.forward) << ", backward "
        << to_string(calls[i].plans.backward) << ", k " << calls[i].top_k << ", f "
        << calls[i].capacity_factor;
  }
  RecordProperty("calls", static_cast<int>(calls.size()));
}

std::vector<World> worlds() {
  std::vector<World> all;
  for (const std::int64_t experts : {1, 2, 4, 8, 16}) {
    for (const int ranks : {1, 2, 4, 8}) {
      for (const int ranks_per_node : {2, 4}) {
        if (ranks_per_node <= ranks) all.push_back({ranks, ranks_per_node, experts});
      }
    }
    all.push_back({1, 1, experts});
  }
  all.push_back({6, 2, 3});
  all.push_back({6, 2, 6});
  return all;
}

INSTANTIATE_TEST_SUITE_P(Worlds, PlanEquality, ::testing::ValuesIn(worlds()),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace flex::testing
