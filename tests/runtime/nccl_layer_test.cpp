#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "costmodel/plan_space.h"
#include "runtime/launch_environment.h"
#include "tests/runtime/cuda_ranks.h"
#include "tests/support/layer_world.h"

/// The layer on NCCL processes equals the reference of one rank under every plan, and moves what the formulas
/// say. Each process compares its own part.
namespace flex::testing {
namespace {

constexpr double kLossGradient = 0.3;
constexpr double kTolerance = 1e-5;  // as in cuda_layer_test.cpp

class NcclCudaLayer : public ::testing::TestWithParam<std::int64_t> {};

void expect_formulas(MoeLayer& layer, const Plan& plan, TrafficCounters& counters) {
  Workload workload = layer.forward_schedule().workload;
  const TrafficBytes forward = expected_traffic(workload, plan);
  workload.pass = Pass::kBackward;
  const TrafficBytes backward = expected_traffic(workload, plan);
  for (int i = 0; i < kNumTraffic; ++i) {
    const auto traffic = static_cast<Traffic>(i);
    const auto index = static_cast<std::size_t>(i);
    if (traffic == Traffic::kControl) continue;
    EXPECT_EQ(counters.bytes(traffic), forward[index] + backward[index])
        << name(traffic) << ", " << to_string(plan);
  }
}

TEST_P(NcclCudaLayer, EveryPlanEqualsTheOneRankResultAndTheFormulas) {
  FLEX_SKIP_WITHOUT_CUDA();
  const int ranks = launch_environment().world;
  const MoeConfig config{.model_dim = 24, .hidden_dim = 32, .num_experts = GetParam(), .gate_noise = 1.0};
  const ReferenceConfig reference = reference_config(config);
  const ReferenceParameters parameters = random_parameters(reference, 11);
  std::vector<std::int64_t> counts;
  for (int rank = 0; rank < ranks; ++rank) counts.push_back(64 - 5 * (rank % 3));
  const auto tokens = random_tokens(counts, config.model_dim, 7);
  run_cuda_ranks({.world = ranks, .ranks_per_node = std::min(ranks, 2)}, kPatient, [&](Communicator& world) {
    RankContext context(world, kGpu);
    MoeLayer layer(config, context);
    load_reference(layer, parameters);
    Stream stream(kGpu);
    const auto rank = static_cast<std::size_t>(world.rank());
    for (const double factor : {1.25, 0.0}) {
      ForwardCall call{.top_k = std::min<std::int64_t>(2, config.num_experts),
                       .capacity_factor = factor,
                       .add_noise = true};
      const ReferenceResult expected =
          reference_layer(reference, parameters, reference_call(config, call, kLossGradient), tokens);
      Workload workload = workload_of(config, ranks);
      workload.capacity = expected.capacity;
      workload.dropless = factor <= 0;
      for (const Plan& plan : PlanSpace(workload, context.cluster()).plans()) {
        call.plans = {plan, plan};
        world.counters().reset();
        const RankOutput output = run_layer(layer, tokens[rank], call, kLossGradient, stream);
        const Difference difference = compare_rank(expected, rank, output);
        EXPECT_LE(difference.error, kTolerance)
            << difference.where << ", plan " << to_string(plan) << ", f " << factor;
        if (factor > 0) expect_formulas(layer, plan, world.counters());
      }
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Experts, NcclCudaLayer, ::testing::Values(1, 2, 4, 8),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace flex::testing
