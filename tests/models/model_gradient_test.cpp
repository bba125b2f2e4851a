#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/philox.h"
#include "kernels/host_element.h"
#include "kernels/nn/cross_entropy.h"
#include "models/procedural_images.h"
#include "runtime/launch.h"
#include "tests/models/configs.h"
#include "tests/support/finite_difference.h"

/// Gradients of whole models in double against central differences.
namespace flex::testing {
namespace {

/// A model whose maps are padded and shifted: 9, 5, 3 and 2 rows in windows of 3.
struct GradientCase {
  const char* block;
  const char* activation;
  const char* gate;
  bool checkpointed;
};
void PrintTo(const GradientCase& one, std::ostream* out) {
  *out << fmt::format("{}_{}_{}_{}", one.block, one.activation, one.gate, one.checkpointed);
}

ModelConfig model_of_case(const GradientCase& one) {
  ModelConfig config = model_of(fmt::format(
      R"({{"block": "{}", "embed_dim": 4, "depths": [2, 1, 2, 1], "num_heads": [1, 2, 2, 4], "image_size": 36,
          "window_size": 3, "pretrained_windows": [0, 4, 0, 0], "num_classes": 3, "drop_path": 0.4,
          "activation": "{}", "mlp_ratio": 2,
          "moe": {{"num_experts": 3, "top_k": 2, "capacity_factor": 1, "projection_dim": 4, "gate": "{}",
                   "blocks": [[0, 1], [2, 0]], "aux_loss": "gshard"}}}})",
      one.block, one.activation, one.gate));
  if (one.checkpointed) config.checkpointed = config.all_blocks();
  return config;
}

class ModelGradient : public ::testing::TestWithParam<GradientCase> {};

// By the largest of a parameter's gradients: the third derivative of a model of six blocks reaches some
// hundreds, and truncation is step^2 / 6 of that. Besides, rounding of a loss of order 1 over the step is
// 1e-11, and several of it.
constexpr double kTolerance = 1e-6;
constexpr double kRounding = 1e-9;
constexpr double kLossWeight = 0.5;

TEST_P(ModelGradient, EqualsCentralDifferences) {
  const ModelConfig config = model_of_case(GetParam());
  run_ranks({}, std::chrono::seconds(60), [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    SwinV2Moe model(config, {.dtype = DType::kF64, .batch = 2, .seed = 5}, context);
    PhiloxStream random(9, 1);
    for (const ModelParameter& parameter : model.parameters().all()) {
      if (!parameter.spec.trained) continue;
      for (std::int64_t i = 0; i < parameter.value.num_elements(); ++i)
        set_host_element(parameter.value, i, host_element(parameter.value, i) + 0.3 * random.normal());
    }
    ProceduralImages images(config, DType::kF64, 2, 4);
    const ImageBatch batch = images.make(0);
    Stream stream(Device::cpu());
    Tensor losses(DType::kF64, {2});
    Tensor loss(DType::kF64, {1});
    Tensor dlogits(DType::kF64, {2, 3});
    const auto forward = [&] {
      const TensorView logits = model.forward(batch.images, true, 7, stream);
      cross_entropy(
          {.logits = logits, .labels = batch.labels, .losses = losses, .loss = loss, .dlogits = dlogits},
          stream);
      stream.synchronize_blocking();
      return loss.as<double>()[0] + kLossWeight * model.auxiliary_loss_blocking();
    };
    static_cast<void>(forward());
    model.backward(dlogits, kLossWeight, stream);
    stream.synchronize_blocking();
    // Gradients of all are kept before the next passes write into them.
    std::vector<std::vector<double>> gradients;
    for (const ModelParameter& parameter : model.parameters().all()) {
      std::vector<double>& values = gradients.emplace_back();
      for (std::int64_t i = 0; i < parameter.gradient.num_elements(); ++i) {
        values.push_back(host_element(parameter.gradient, i));
      }
    }
    constexpr int kElements = 3;  // of each parameter
    for (std::size_t p = 0; p < gradients.size(); ++p) {
      const ModelParameter& parameter = model.parameters().all()[p];
      if (!parameter.spec.trained) continue;
      double largest = 0;
      for (const double value : gradients[p]) largest = std::max(largest, std::abs(value));
      EXPECT_GT(largest, 0) << parameter.spec.name;
      for (int sample = 0; sample < kElements; ++sample) {
        const std::int64_t element = random.below(parameter.value.num_elements());
        const double original = host_element(parameter.value, element);
        const auto loss_at = [&](double value) {
          set_host_element(parameter.value, element, value);
          return forward();
        };
        const double above = loss_at(original + kFiniteDifferenceStep);
        const double below = loss_at(original - kFiniteDifferenceStep);
        set_host_element(parameter.value, element, original);
        EXPECT_NEAR(gradients[p][static_cast<std::size_t>(element)],
                    (above - below) / (2 * kFiniteDifferenceStep), kTolerance * largest + kRounding)
            << parameter.spec.name << " [" << element << "]";
      }
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Models, ModelGradient,
                         ::testing::Values(GradientCase{"swinv2", "gelu", "cosine", false},
                                           GradientCase{"swinv2", "silu", "linear", true},
                                           GradientCase{"swin_moe", "gelu", "cosine", true},
                                           GradientCase{"swin_moe", "silu", "linear", false}));

}  // namespace
}  // namespace flex::testing
