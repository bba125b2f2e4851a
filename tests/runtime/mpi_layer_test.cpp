#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>

#include "base/error.h"
#include "costmodel/plan_space.h"
#include "runtime/broadcast_snapshot.h"
#include "runtime/mpi_communicator.h"
#include "runtime/pinned_plans.h"
#include "tests/base/expect_error.h"
#include "tests/runtime/scripted_policy.h"
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

TEST(MpiAdaptiveLayer, RunsOnePlanOnAllRanksUntilTheirPoliciesDiffer) {
  const MoeConfig config{.model_dim = 6, .hidden_dim = 8, .num_experts = 2, .dtype = DType::kF64};
  const int ranks = session().size();
  const ReferenceConfig reference = reference_config(config);
  const ReferenceParameters parameters = random_parameters(reference, 5);
  std::vector<std::int64_t> counts;
  for (int rank = 0; rank < ranks; ++rank) counts.push_back(32 - 5 * rank);
  const auto tokens = random_tokens(counts, config.model_dim, 6);
  const ForwardCall call{.capacity_factor = 0};
  const ReferenceResult expected =
      reference_layer(reference, parameters, reference_call(config, call, kLossGradient), tokens);

  const auto world = make_mpi_world(session(), 2, 30s);
  RankContext context(*world, Device::cpu());
  std::size_t turn = 0;
  ScriptedPolicy policy([&](std::int64_t, const LayerLoad& load) {
    const std::vector<Plan> plans = PlanSpace(load.workload, context.cluster()).plans();
    const Plan plan = plans[turn++ * 5 % plans.size()];
    return PlanPair{plan, plan};
  });
  MoeLayer layer(config, context);
  AdaptiveLayer adaptive(layer, policy, 0, context);
  load_reference(layer, parameters);
  Stream stream(Device::cpu());
  const auto rank = static_cast<std::size_t>(world->rank());
  constexpr std::size_t kPlanted = 4;
  for (std::size_t i = 0; i < 6; ++i) {
    if (i == kPlanted && rank == 1) policy.hash = 2;
    const RankOutput output = run_layer(adaptive, tokens[rank], call, kLossGradient, stream);
    EXPECT_EQ(output.result.plans, i < kPlanted ? policy.asked.back().plans : PlanPair{});
    EXPECT_EQ(output.result.plans_disagreed, i >= kPlanted);
    const Difference difference = compare_rank(expected, rank, output);
    EXPECT_LE(difference.error, kTolerance) << difference.where << ", iteration " << i;
  }
  EXPECT_EQ(policy.asked.size(), kPlanted);
  EXPECT_EQ(policy.told.size(), kPlanted - 1);
}

TEST(MpiPinnedPlans, MustBeTheSameOnAllRanks) {
  const auto world = make_mpi_world(session(), 2, 30s);
  RankContext context(*world, Device::cpu());
  if (world->rank() != 2) setenv("FLEX_PLAN", "r1 d2", 1);
  const std::string message =
      message_of<InputError>([&] { static_cast<void>(pinned_plans_blocking(context)); });
  unsetenv("FLEX_PLAN");
  EXPECT_EQ(
      message,
      "FLEX_PLAN is 'r1 d2' on rank 0 and '' on rank 2; set it alike on all ranks (mpirun: -x FLEX_PLAN)");
}

TEST(MpiSnapshot, IsThatOfRankZero) {
  const auto world = make_mpi_world(session(), 2, 30s);
  RankContext context(*world, Device::cpu());
  const CacheSnapshot of_rank_zero(3, {{.layer = 7, .plan = kDefaultPlan, .median_ns = 5}});
  const CacheSnapshot own = world->rank() == 0 ? of_rank_zero : CacheSnapshot();
  EXPECT_EQ(broadcast_snapshot_blocking(context, own), of_rank_zero);
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
