#include <gtest/gtest.h>

#include <atomic>
#include <chrono>

#include "base/philox.h"
#include "costmodel/plan_space.h"
#include "costmodel/traffic.h"
#include "kernels/moe/route.h"
#include "runtime/launch.h"
#include "tests/support/count_allocations.h"
#include "tests/support/layer_world.h"

/// Switching plans between iterations costs nothing: nothing moves, nothing is allocated, and exactly the
/// bytes of the plan travel.
namespace flex::testing {
namespace {

using namespace std::chrono_literals;

constexpr int kRanks = 8;
constexpr int kRanksPerNode = 2;
constexpr std::int64_t kTokens = 96;

struct Buffers {
  Tensor x, y, dy, dx;
  Buffers(std::int64_t tokens, const MoeConfig& config)
      : x(Tensor::zeros(config.dtype, {tokens, config.model_dim})),
        y(config.dtype, {tokens, config.model_dim}),
        dy(Tensor::zeros(config.dtype, {tokens, config.model_dim})),
        dx(config.dtype, {tokens, config.model_dim}) {
    PhiloxStream random(3);
    for (std::int64_t i = 0; i < x.num_elements(); ++i) {
      x.as<float>()[i] = static_cast<float>(random.normal());
      dy.as<float>()[i] = static_cast<float>(random.normal());
    }
  }
};

// Large enough that a matrix library would want scratch memory.
MoeConfig config_of(std::int64_t experts) {
  return {
      .model_dim = 130, .hidden_dim = 192, .num_experts = experts, .dtype = DType::kF32, .gate_noise = 0.5};
}

std::vector<PlanPair> all_pairs(const MoeConfig& config, std::int64_t capacity) {
  Workload workload = workload_of(config, kRanks);
  workload.capacity = capacity;
  const std::vector<Plan> plans = PlanSpace(workload, cluster_of({kRanks, kRanksPerNode})).plans();
  std::vector<PlanPair> pairs;
  for (const Plan& forward : plans) {
    for (const Plan& backward : plans) {
      if (can_pair(forward, backward)) pairs.push_back({forward, backward});
    }
  }
  return pairs;
}

ForwardCall call_of(const PlanPair& pair, std::uint64_t iteration) {
  // f = 1.5 keeps the capacity, and with it the legal plans, the same whatever is routed; noise and k change.
  return {.top_k = 2,
          .capacity_factor = 1.5,
          .plans = pair,
          .add_noise = iteration % 2 == 1,
          .iteration = iteration};
}

class PlanSwitching : public ::testing::TestWithParam<std::int64_t> {};

TEST_P(PlanSwitching, MovesNoParameterAndAllocatesNothingAfterWarmUp) {
  const MoeConfig config = config_of(GetParam());
  const std::int64_t capacity = expert_capacity(2, 1.5, kTokens, config.num_experts, 0);
  const std::vector<PlanPair> pairs = all_pairs(config, capacity);
  std::atomic<std::int64_t> allocations{-1};
  run_ranks({kRanks, kRanksPerNode}, 60s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    MoeLayer layer(config, context);
    Stream stream(Device::cpu());
    Buffers buffers(kTokens, config);
    const auto iterate = [&](std::size_t pair, std::uint64_t iteration) {
      static_cast<void>(layer.forward(buffers.x, buffers.y, call_of(pairs[pair], iteration), stream));
      layer.backward(buffers.dy, buffers.dx, 0.1, stream);
      stream.synchronize_blocking();
    };
    for (std::size_t pair = 0; pair < pairs.size(); ++pair)
      iterate(pair, 1);  // warm-up: each plan, with noise
    iterate(0, 1);       // the arena makes one block of all that was needed at the start of the next pass

    std::vector<const void*> addresses;
    for (Parameter& parameter : layer.parameters().all()) addresses.push_back(parameter.value.view().data);
    PhiloxStream random(17);  // the same on every rank
    std::array<std::int64_t, kRanks> arrived{};
    world.gather_host_blocking(std::array<std::int64_t, 1>{0}, arrived);
    const std::int64_t before = num_allocations();
    for (std::uint64_t iteration = 0; iteration < 100; ++iteration) {
      iterate(static_cast<std::size_t>(random.below(static_cast<std::int64_t>(pairs.size()))), iteration);
    }
    world.gather_host_blocking(std::array<std::int64_t, 1>{0},
                               arrived);  // nobody has left the loop's work yet
    if (world.rank() == 0) allocations = num_allocations() - before;
    world.gather_host_blocking(std::array<std::int64_t, 1>{0}, arrived);
    for (std::size_t i = 0; i < addresses.size(); ++i) {
      EXPECT_EQ(addresses[i], layer.parameters().all()[i].value.view().data);
    }
  });
  EXPECT_EQ(allocations, 0) << "over 100 iterations on " << kRanks << " ranks";
}

TEST_P(PlanSwitching, CountersEqualTheFormulasToTheByte) {
  const MoeConfig config = config_of(GetParam());
  const std::int64_t capacity = expert_capacity(2, 1.5, kTokens, config.num_experts, 0);
  const std::vector<PlanPair> pairs = all_pairs(config, capacity);
  run_ranks({kRanks, kRanksPerNode}, 60s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    MoeLayer layer(config, context);
    Stream stream(Device::cpu());
    Buffers buffers(kTokens, config);
    TrafficCounters& counters = context.counters();
    for (const PlanPair& pair : pairs) {
      counters.reset();
      static_cast<void>(layer.forward(buffers.x, buffers.y, call_of(pair, 0), stream));
      layer.backward(buffers.dy, buffers.dx, 0.1, stream);
      stream.synchronize_blocking();
      Workload workload = layer.forward_schedule().workload;
      TrafficBytes expected = expected_traffic(workload, pair.forward);
      workload.pass = Pass::kBackward;
      const TrafficBytes backward = expected_traffic(workload, pair.backward);
      for (int i = 0; i < kNumTraffic; ++i) {
        const auto traffic = static_cast<Traffic>(i);
        if (traffic == Traffic::kControl) continue;
        const auto index = static_cast<std::size_t>(i);
        EXPECT_EQ(counters.bytes(traffic), expected[index] + backward[index])
            << name(traffic) << ", " << to_string(pair.forward) << " and " << to_string(pair.backward);
      }
      // The hand-worked size of an exchange: E * C * M * r elements, forward and backward, dispatch and
      // combine.
      const std::int64_t slots = workload.padded_capacity() * config.num_experts;
      EXPECT_EQ(counters.bytes(Traffic::kDispatch),
                2 * slots * config.model_dim * 4 * pair.forward.parallel_degree);
    }
  });
}

TEST_P(PlanSwitching, HierarchicalTalksToItsNodeAndItsRailOnly) {
  const MoeConfig config = config_of(GetParam());
  run_ranks({kRanks, kRanksPerNode}, 60s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    MoeLayer layer(config, context);
    Stream stream(Device::cpu());
    Buffers buffers(kTokens, config);
    context.counters().reset();
    const Plan plan{.all_to_all = AllToAllAlgorithm::kHierarchical2d};
    static_cast<void>(layer.forward(buffers.x, buffers.y, call_of({plan, plan}, 0), stream));
    stream.synchronize_blocking();
    int node_peers = 0;
    int rail_peers = 0;
    for (int peer = 0; peer < kRanks; ++peer) {
      const bool same_node = peer / kRanksPerNode == world.rank() / kRanksPerNode;
      const bool same_rail = peer % kRanksPerNode == world.rank() % kRanksPerNode;
      for (const Traffic traffic : {Traffic::kDispatchIntra, Traffic::kCombineIntra}) {
        EXPECT_EQ(context.counters().bytes(traffic, peer) > 0, same_node) << "peer " << peer;
      }
      for (const Traffic traffic : {Traffic::kDispatch, Traffic::kCombine}) {
        EXPECT_EQ(context.counters().bytes(traffic, peer) > 0, same_rail) << "peer " << peer;
      }
      if (peer == world.rank()) continue;
      node_peers += context.counters().bytes(Traffic::kDispatchIntra, peer) > 0 ? 1 : 0;
      rail_peers += context.counters().bytes(Traffic::kDispatch, peer) > 0 ? 1 : 0;
    }
    EXPECT_EQ(node_peers, kRanksPerNode - 1);
    EXPECT_EQ(rail_peers, kRanks / kRanksPerNode - 1);
  });
}

INSTANTIATE_TEST_SUITE_P(Experts, PlanSwitching, ::testing::Values(2, 8, 16),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace flex::testing
