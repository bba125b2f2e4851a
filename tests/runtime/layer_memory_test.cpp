#include "costmodel/layer_memory.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "costmodel/traffic.h"
#include "runtime/launch.h"
#include "runtime/moe_layer.h"

/// The cost model's formula of a layer's memory beside what the layer holds.
namespace flex {
namespace {

using namespace std::chrono_literals;

constexpr int kRanks = 4;
// Enough that the layer's arena outgrows its first block, so that what it holds is what passes take.
constexpr std::int64_t kTokens = 2048;
constexpr std::int64_t kTopK = 2;

struct Held {
  LayerMemory memory;
  Workload workload;
};

// What rank 0's layer holds once it has run twice.
Held held_by_layer(const MoeConfig& config, const PlanPair& plans, bool training, int ranks = kRanks) {
  Held held;
  run_ranks({ranks, ranks > 1 ? 2 : 1}, 60s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    MoeLayer layer(config, context);
    Stream stream(Device::cpu());
    const Tensor x = Tensor::zeros(config.dtype, {kTokens, config.model_dim});
    Tensor y(config.dtype, x.shape());
    Tensor dx(config.dtype, x.shape());
    ForwardResult result;
    for (int iteration = 0; iteration < 2; ++iteration) {
      result = layer.forward(x, y, {.top_k = kTopK, .plans = plans, .training = training}, stream);
      if (training) layer.backward(x, dx, 1, stream);
      stream.synchronize_blocking();
    }
    if (world.rank() != 0) return;
    for (const Parameter& parameter : layer.parameters().all()) {
      held.memory.parameter_bytes += parameter.value.bytes();
      held.memory.gradient_bytes += parameter.gradient.bytes();
    }
    held.memory.activation_bytes = layer.activation_bytes();
    held.workload = workload_of(config, ranks);
    held.workload.num_tokens = kTokens;
    held.workload.top_k = kTopK;
    held.workload.capacity = result.capacity;
  });
  return held;
}

struct Case {
  const char* name;
  MoeConfig config;
  const char* forward;
  const char* backward;
  bool training = true;
  int ranks = kRanks;
};

const MoeConfig kShared{.model_dim = 24, .hidden_dim = 32, .num_experts = 2};
const MoeConfig kWhole{.model_dim = 24, .hidden_dim = 32, .num_experts = 8};

MoeConfig with(MoeConfig config, void (*change)(MoeConfig&)) {
  change(config);
  return config;
}

class LayerMemoryOf : public ::testing::TestWithParam<Case> {};

TEST_P(LayerMemoryOf, EqualsWhatTheLayerHolds) {
  const Case& one = GetParam();
  const PlanPair plans{parse_plan(one.forward), parse_plan(one.backward)};
  const Held held = held_by_layer(one.config, plans, one.training, one.ranks);
  const LayerMemory memory = layer_memory(held.workload, plans.forward, plans.backward,
                                          {.activation = one.config.activation, .training = one.training});
  ASSERT_GT(held.memory.activation_bytes, std::int64_t{1} << 20);
  EXPECT_EQ(memory.parameter_bytes, held.memory.parameter_bytes);
  if (one.training) {
    EXPECT_EQ(memory.gradient_bytes, held.memory.gradient_bytes);
  }
  EXPECT_EQ(memory.activation_bytes, held.memory.activation_bytes);
}

INSTANTIATE_TEST_SUITE_P(
    Plans, LayerMemoryOf,
    ::testing::Values(
        Case{"data_parallel", kShared, "r0", "r0"},
        Case{"data_parallel_gated", with(kShared, [](MoeConfig& c) { c.ffn = FfnKind::kGated; }), "r0", "r0"},
        Case{"one_copy", kShared, "r1 d1", "r1 d1"},
        Case{"one_copy_in_chunks", kShared, "r1 d4 2dh", "r1 d2"},
        Case{"two_copies", kShared, "r2 d1 2dh", "r2 d8 2dh"},
        Case{"whole_experts", kWhole, "r1 d2", "r1 d2"},
        Case{"gated", with(kWhole, [](MoeConfig& c) { c.ffn = FfnKind::kGated; }), "r1 d1", "r1 d4"},
        Case{"relu", with(kShared, [](MoeConfig& c) { c.activation = Activation::kRelu; }), "r0", "r0"},
        Case{"cosine_gate_without_loss",
             with(kWhole,
                  [](MoeConfig& c) {
                    c.gate = GateKind::kCosine;
                    c.projection_dim = 16;
                    c.gate_loss = GateLossKind::kNone;
                    c.fc2_bias = Fc2Bias::kFrozen;
                  }),
             "r1 d1 2dh", "r1 d1"},
        Case{"double_without_bias",
             with(kShared,
                  [](MoeConfig& c) {
                    c.dtype = DType::kF64;
                    c.fc2_bias = Fc2Bias::kNone;
                  }),
             "r1 d1", "r1 d8"},
        Case{"inference", kShared, "r2 d4", "r2 d4", false},
        Case{"one_rank_in_chunks", kShared, "r1 d4", "r1 d1", true, 1}),
    [](const auto& tested) { return std::string(tested.param.name); });

// Weights that are gathered again take the place of the forward pass's; only while the arena grows, in its
// first pass, do both have a place, which it keeps.
TEST(LayerMemory, WeightsGatheredAgainTakeTheirOldPlace) {
  MoeConfig config = kShared;
  config.hidden_dim = 512;
  config.regather_weights = true;
  const PlanPair plans{parse_plan("r1"), parse_plan("r1")};
  const Held held = held_by_layer(config, plans, true);
  const std::int64_t bytes = layer_memory(held.workload, plans.forward, plans.backward, {}).activation_bytes;
  Workload kept = held.workload;
  kept.regather_weights = false;
  EXPECT_EQ(bytes, layer_memory(kept, plans.forward, plans.backward, {}).activation_bytes);
  const std::int64_t weights =
      expected_traffic(kept, plans.forward)[static_cast<std::size_t>(Traffic::kWeights)];
  EXPECT_GE(held.memory.activation_bytes, bytes);
  EXPECT_LE(held.memory.activation_bytes, bytes + weights + 4 * kAlignmentBytes);
}

}  // namespace
}  // namespace flex
