#include <gtest/gtest.h>

#include <chrono>

#include "costmodel/plan_space.h"
#include "runtime/launch.h"
#include "tests/support/layer_world.h"

/// Every setting of the layer equals the reference on several ranks, under plans of every kind.
namespace flex::testing {
namespace {

using namespace std::chrono_literals;

constexpr double kTolerance = 1e-11;  // as in plan_equality_test.cpp

struct Variant {
  const char* name;
  MoeConfig config;
  ForwardCall call;
};

MoeConfig base_config() {
  return {.model_dim = 6, .hidden_dim = 8, .num_experts = 4, .dtype = DType::kF64, .seed = 9, .layer = 1};
}

template <class F>
Variant variant(const char* name, F change) {
  Variant result{.name = name, .config = base_config(), .call = {.top_k = 2, .capacity_factor = 0.75}};
  change(result);
  return result;
}

std::vector<Variant> variants() {
  return {
      variant("relu", [](Variant& v) { v.config.activation = Activation::kRelu; }),
      variant("silu", [](Variant& v) { v.config.activation = Activation::kSilu; }),
      variant("gated", [](Variant& v) { v.config.ffn = FfnKind::kGated; }),
      variant("gated_dropless",
              [](Variant& v) { v.config.ffn = FfnKind::kGated, v.call.capacity_factor = 0; }),
      variant("cosine", [](Variant& v) { v.config.gate = GateKind::kCosine, v.config.projection_dim = 5; }),
      variant(
          "cosine_bpr",
          [](Variant& v) { v.config.gate = GateKind::kCosine, v.config.batch_prioritized_routing = true; }),
      variant("bpr",
              [](Variant& v) { v.config.batch_prioritized_routing = true, v.call.capacity_factor = 0.5; }),
      variant("bpr_dropless",
              [](Variant& v) { v.config.batch_prioritized_routing = true, v.call.capacity_factor = 0; }),
      variant("prescore", [](Variant& v) { v.config.is_postscore = false; }),
      variant("prescore_cosine_noise",
              [](Variant& v) {
                v.config.is_postscore = false, v.config.gate = GateKind::kCosine;
                v.config.gate_noise = 1, v.call.add_noise = true, v.call.iteration = 77;
              }),
      variant("not_normalized", [](Variant& v) { v.config.normalize_gate = false; }),
      variant("no_fc2_bias", [](Variant& v) { v.config.fc2_bias = Fc2Bias::kNone; }),
      variant("no_loss", [](Variant& v) { v.config.gate_loss = GateLossKind::kNone; }),
      variant("z_loss_alone",
              [](Variant& v) { v.config.gate_loss = GateLossKind::kNone, v.config.z_loss_weight = 0.3; }),
      variant("load_importance",
              [](Variant& v) {
                v.config.gate_loss = GateLossKind::kLoadImportance, v.config.gate_noise = 1,
                v.call.add_noise = true;
              }),
      variant("load_importance_released",
              [](Variant& v) {
                v.config.gate_loss = GateLossKind::kLoadImportanceReleased, v.config.gate_noise = 1;
              }),
      variant("local_loss", [](Variant& v) { v.config.loss_scope = LossScope::kLocal; }),
      variant("regather", [](Variant& v) { v.config.regather_weights = true; }),
      variant("regather_gated",
              [](Variant& v) { v.config.regather_weights = true, v.config.ffn = FfnKind::kGated; }),
      variant("every_expert", [](Variant& v) { v.call.top_k = 4; }),
      variant("limit_that_does_not_bind", [](Variant& v) { v.call.capacity_factor = -8; }),
      variant("one_expert", [](Variant& v) { v.config.num_experts = 1, v.call.top_k = 1; }),
      variant("everything_dropped", [](Variant& v) { v.call.capacity_factor = 1e-3; }),
  };
}

class LayerVariants : public ::testing::TestWithParam<Variant> {};

// Tokens of each rank: even; uneven; some ranks and at last all without any.
const std::vector<std::vector<std::int64_t>>& token_counts() {
  static const std::vector<std::vector<std::int64_t>> kCounts = {
      {24, 24, 24, 24, 24, 24, 24, 24}, {24, 0, 7, 24, 1, 0, 16, 5}, {0, 0, 0, 0, 0, 0, 0, 0}};
  return kCounts;
}

TEST_P(LayerVariants, EqualsTheReferenceUnderEveryPlan) {
  const auto& [label, config, base_call] = GetParam();
  constexpr int kRanks = 8;
  constexpr double kLossGradient = 0.21;
  const Cluster cluster = cluster_of({kRanks, 4});
  const ReferenceConfig reference = reference_config(config);
  const ReferenceParameters parameters = random_parameters(reference, 23);
  for (const std::vector<std::int64_t>& counts : token_counts()) {
    const std::vector<ReferenceTokens> tokens = random_tokens(counts, config.model_dim, 31);
    const ReferenceResult expected =
        reference_layer(reference, parameters, reference_call(config, base_call, kLossGradient), tokens);
    Workload workload = workload_of(config, kRanks);
    workload.capacity = expected.capacity;
    workload.dropless = base_call.capacity_factor <= 0;
    const std::vector<Plan> plans = PlanSpace(workload, cluster).plans();
    std::vector<std::vector<RankOutput>> outputs(plans.size(), std::vector<RankOutput>(kRanks));
    run_ranks({kRanks, 4}, 60s, [&](Communicator& world) {
      RankContext context(world, Device::cpu());
      MoeLayer layer(config, context);
      layer.set_probe({.poison_buffers = true});
      load_reference(layer, parameters);
      Stream stream(Device::cpu());
      const auto rank = static_cast<std::size_t>(world.rank());
      for (std::size_t i = 0; i < plans.size(); ++i) {
        ForwardCall call = base_call;
        call.plans = {plans[i], plans[i]};
        outputs[i][rank] = run_layer(layer, tokens[rank], call, kLossGradient, stream);
      }
    });
    for (std::size_t i = 0; i < plans.size(); ++i) {
      const Difference difference = compare(expected, outputs[i]);
      EXPECT_LE(difference.error, kTolerance) << difference.where << ", plan " << to_string(plans[i]);
      if (base_call.capacity_factor == 0) {
        for (const RankOutput& output : outputs[i]) EXPECT_EQ(output.dropped, 0) << "dropless dropped";
      }
    }
  }
}

TEST(Layer, FrozenSecondBiasKeepsItsGradientAtZero) {
  MoeConfig config = base_config();
  config.fc2_bias = Fc2Bias::kFrozen;
  run_ranks({8, 4}, 60s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    MoeLayer layer(config, context);
    Stream stream(Device::cpu());
    const auto tokens = random_tokens({16}, config.model_dim, 1);
    static_cast<void>(run_layer(layer, tokens[0], {.top_k = 2}, 0.1, stream));
    const Parameter& bias = layer.parameters().at("experts.batched_fc2_bias");
    EXPECT_FALSE(bias.trained);
    for (std::int64_t i = 0; i < bias.gradient.num_elements(); ++i)
      EXPECT_EQ(bias.gradient.as<double>()[i], 0);
  });
}

TEST(Layer, HoldsNoArrayOfTokensByExpertsBySlots) {
  constexpr std::int64_t kTokens = 2048;
  constexpr std::int64_t kExperts = 64;
  const MoeConfig config{.model_dim = 4, .hidden_dim = 4, .num_experts = kExperts, .dtype = DType::kF64};
  run_ranks({}, 60s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    MoeLayer layer(config, context);
    Stream stream(Device::cpu());
    const auto tokens = random_tokens({kTokens}, config.model_dim, 1);
    std::int64_t capacity = 0;
    for (int pass = 0; pass < 2; ++pass) {  // the second with one block of what the first needed
      capacity = run_layer(layer, tokens[0], {.top_k = 1}, 0.1, stream).result.capacity;
    }
    // A quarter of the dense mask alone; what is held is a few arrays of T x E and of E x C x M.
    const std::int64_t mask_bytes = kTokens * kExperts * capacity * size_bytes(config.dtype);
    EXPECT_LT(layer.activation_bytes(), mask_bytes / 4);
  });
}

INSTANTIATE_TEST_SUITE_P(All, LayerVariants, ::testing::ValuesIn(variants()),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace flex::testing
