#include <gtest/gtest.h>

#include <chrono>

#include "costmodel/plan_space.h"
#include "runtime/mpi_communicator.h"
#include "tests/support/layer_world.h"

/// The layer on MPI processes equals the reference under every plan. Each process compares its own part.
namespace flex::testing {
namespace {

using namespace std::chrono_literals;

constexpr double kTolerance = 1e-11;  // as in plan_equality_test.cpp
constexpr double kLossGradient = 0.37;

const MpiSession& session() {
  static const MpiSession one;
  return one;
}

class MpiLayer : public ::testing::TestWithParam<std::int64_t> {};

TEST_P(MpiLayer, EveryPlanEqualsTheReference) {
  const MoeConfig config{
      .model_dim = 6, .hidden_dim = 8, .num_experts = GetParam(), .dtype = DType::kF64, .gate_noise = 1};
  const int ranks = session().size();
  constexpr int kRanksPerNode = 2;
  const ReferenceConfig reference = reference_config(config);
  const ReferenceParameters parameters = random_parameters(reference, 5);
  std::vector<std::int64_t> counts;
  for (int rank = 0; rank < ranks; ++rank) counts.push_back(32 - 5 * rank);
  const auto tokens = random_tokens(counts, config.model_dim, 6);

  const auto world = make_mpi_world(session(), kRanksPerNode, 30s);
  RankContext context(*world, Device::cpu());
  MoeLayer layer(config, context);
  load_reference(layer, parameters);
  Stream stream(Device::cpu());
  const auto rank = static_cast<std::size_t>(world->rank());
  for (const double factor : {1.25, 0.0}) {
    ForwardCall call{
        .top_k = std::min<std::int64_t>(2, config.num_experts), .capacity_factor = factor, .add_noise = true};
    const ReferenceResult expected =
        reference_layer(reference, parameters, reference_call(config, call, kLossGradient), tokens);
    Workload workload = workload_of(config, ranks);
    workload.capacity = expected.capacity;
    workload.dropless = factor <= 0;
    for (const Plan& plan : PlanSpace(workload, context.cluster()).plans()) {
      call.plans = {plan, plan};
      const RankOutput output = run_layer(layer, tokens[rank], call, kLossGradient, stream);
      const Difference difference = compare_rank(expected, rank, output);
      EXPECT_LE(difference.error, kTolerance)
          << difference.where << ", plan " << to_string(plan) << ", f " << factor;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Experts, MpiLayer, ::testing::Values(1, 2, 4, 8),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace flex::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  static_cast<void>(flex::testing::session());  // MPI lives as long as the process
  return RUN_ALL_TESTS();
}
