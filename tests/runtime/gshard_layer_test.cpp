#include "runtime/gshard_layer.h"

#include <gtest/gtest.h>

#include <chrono>

#include "runtime/launch.h"
#include "tests/support/kernel_test.h"
#include "tests/support/layer_world.h"
#include "tests/support/tensors.h"

/// The einsum baseline computes what MoeLayer computes on one rank.
namespace flex::testing {
namespace {

using namespace std::chrono_literals;

constexpr double kLossGradient = 0.21;

MoeConfig base_config(DType dtype) {
  return {.model_dim = 6, .hidden_dim = 8, .num_experts = 4, .dtype = dtype, .seed = 9, .layer = 1};
}

struct Variant {
  const char* name;
  std::int64_t top_k;
  double capacity_factor;
  void (*change)(MoeConfig&) = [](MoeConfig&) {};
};
void PrintTo(const Variant& variant, std::ostream* out) { *out << variant.name; }

std::vector<Variant> variants() {
  return {{"k1", 1, 1.0},
          {"k2", 2, 1.0},
          {"k2_drops", 2, 0.5},
          {"k3_room", 3, 4.0},
          {"every_expert", 4, 1.25},
          {"everything_dropped", 2, 1e-3},
          {"relu", 2, 1.0, [](MoeConfig& c) { c.activation = Activation::kRelu; }},
          {"silu_prioritized", 2, 0.75,
           [](MoeConfig& c) { c.activation = Activation::kSilu, c.batch_prioritized_routing = true; }},
          {"gated", 2, 0.75, [](MoeConfig& c) { c.ffn = FfnKind::kGated; }},
          {"not_normalized", 2, 1.0, [](MoeConfig& c) { c.normalize_gate = false; }},
          {"frozen_bias", 2, 1.0, [](MoeConfig& c) { c.fc2_bias = Fc2Bias::kFrozen; }},
          {"no_bias_no_loss", 2, 1.0,
           [](MoeConfig& c) { c.fc2_bias = Fc2Bias::kNone, c.gate_loss = GateLossKind::kNone; }},
          {"z_loss", 2, 1.0, [](MoeConfig& c) { c.z_loss_weight = 0.3; }}};
}

class GshardLayerTest : public ::testing::TestWithParam<std::tuple<Variant, Backend>> {};

// Runs both on the same tokens, twice: the second pass takes memory that the first has made.
TEST_P(GshardLayerTest, EqualsMoeLayer) {
  const Variant& variant = std::get<0>(GetParam());
  const Backend& backend = std::get<1>(GetParam());
  const Device device = backend.device;
  if (skip_device(device)) GTEST_SKIP() << "no GPU";
  MoeConfig config = base_config(backend.dtype);
  variant.change(config);
  // Sums of a few terms of magnitude 1 in another order; parameters start from the same seed.
  const double tolerance = backend.dtype == DType::kF64 ? 1e-11 : 1e-5;
  run_ranks({}, 60s, [&](Communicator& world) {
    RankContext context(world, device);
    MoeLayer layer(config, context);
    GshardLayer dense(config, device, context.gemm());
    for (const std::int64_t tokens : {24, 0, 7, 7}) {
      const ReferenceTokens values = random_tokens({tokens}, config.model_dim, 31).front();
      Stream stream(device);
      const RankOutput expected =
          run_layer(layer, values, {.top_k = variant.top_k, .capacity_factor = variant.capacity_factor},
                    kLossGradient, stream);
      const Shape shape = {tokens, config.model_dim};
      const Tensor x = make_tensor(shape, values.x, config.dtype, device);
      const Tensor dy = make_tensor(shape, values.dy, config.dtype, device);
      Tensor y = poisoned_tensor(shape, config.dtype, device);
      Tensor dx = poisoned_tensor(shape, config.dtype, device);
      for (Parameter& parameter : dense.parameters().all()) {
        if (!parameter.trained) continue;
        copy_blocking(parameter.gradient,
                      poisoned_tensor(parameter.gradient.shape(), parameter.gradient.dtype(), device));
      }
      dense.forward(x, y, variant.top_k, variant.capacity_factor, stream);
      dense.backward(dy, dx, kLossGradient, stream);
      stream.synchronize_blocking();
      EXPECT_EQ(dense.capacity(), expected.result.capacity);
      EXPECT_TRUE(close(values_of(y), expected.y, tolerance));
      EXPECT_TRUE(close(values_of(dx), expected.dx, tolerance));
      ASSERT_EQ(dense.loss().present(), config.has_loss());
      EXPECT_TRUE(close(config.has_loss() ? values_of(dense.loss()) : std::vector<double>{}, expected.loss,
                        tolerance));
      for (const Parameter& parameter : dense.parameters().all()) {
        EXPECT_TRUE(close(values_of(parameter.gradient),
                          values_of(layer.parameters().at(parameter.name).gradient), tolerance))
            << parameter.name;
      }
    }
  });
}

std::vector<Backend> layer_backends() {
  std::vector<Backend> backends = double_backend();
  if (kHasCuda) backends.push_back({Device::cuda(0), DType::kF32});
  return backends;
}

INSTANTIATE_TEST_SUITE_P(All, GshardLayerTest,
                         ::testing::Combine(::testing::ValuesIn(variants()),
                                            ::testing::ValuesIn(layer_backends())),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param).name) + "_" +
                                  to_string(std::get<1>(test.param));
                         });

TEST(GshardLayer, HoldsThreeArraysOfTokensByExpertsBySlots) {
  constexpr std::int64_t kTokens = 512;
  const MoeConfig config{.model_dim = 4, .hidden_dim = 4, .num_experts = 8, .dtype = DType::kF64};
  GshardLayer layer(config, Device::cpu(), nullptr);
  const Tensor x = Tensor::zeros(DType::kF64, {kTokens, 4});
  Tensor y(DType::kF64, x.shape());
  Stream stream(Device::cpu());
  layer.forward(x, y, 2, 1.0, stream);
  const std::int64_t mask_bytes = kTokens * 8 * layer.capacity() * size_bytes(DType::kF64);
  EXPECT_GE(layer.activation_bytes(), 2 * mask_bytes);
  layer.backward(x, y, 0, stream);
  EXPECT_GE(layer.activation_bytes(), 3 * mask_bytes);
  EXPECT_LT(layer.activation_bytes(), 4 * mask_bytes);
}

TEST(GshardLayer, SaysWhatItDoesNotDo) {
  MoeConfig config = base_config(DType::kF64);
  Stream stream(Device::cpu());
  Tensor x = Tensor::zeros(DType::kF64, {3, 6});
  Tensor y(DType::kF64, {3, 6});
  Tensor narrow(DType::kF64, {3, 5});
  GshardLayer layer(config, Device::cpu(), nullptr);
  EXPECT_EQ(error_text([&] { layer.backward(x, y, 0, stream); }),
            "GshardLayer::backward: no forward pass came before");
  EXPECT_EQ(error_text([&] { layer.forward(narrow, y, 2, 1, stream); }),
            "GshardLayer::forward: x is (3, 5), expected (3, 6)");
  EXPECT_EQ(error_text([&] { layer.forward(x, y, 5, 1, stream); }),
            "GshardLayer::forward: top_k is 5; with 4 experts it is from 1 to 4");
  EXPECT_EQ(error_text([&] { layer.forward(x, y, 2, 0, stream); }),
            "GshardLayer::forward: capacity_factor is 0, expected above 0");
  config.is_postscore = false;
  EXPECT_EQ(error_text([&] { GshardLayer(config, Device::cpu(), nullptr); }),
            "GshardLayer: the baseline has the linear gate and weights what the experts return");
}

}  // namespace
}  // namespace flex::testing
