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
                   "blocks": [[0, 1], [2, 0]], "aux_loss": "gshard", "expert_dropout": 0.25}}}})",
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

/// A model in double with the loss of one batch.
class LossOfModel {
 public:
  LossOfModel(const ModelConfig& config, RankContext& context)
      : images_(config, DType::kF64, kBatch, 4),
        batch_(images_.make(0)),
        stream_(Device::cpu()),
        losses_(DType::kF64, {kBatch}),
        loss_(DType::kF64, {1}),
        dlogits_(DType::kF64, {kBatch, config.num_classes}),
        model_(config, {.dtype = DType::kF64, .batch = kBatch, .seed = 5}, context) {
    PhiloxStream random(9, 0);
    for (const ModelParameter& parameter : model_.parameters().all()) {
      if (!parameter.spec.trained) continue;
      for (std::int64_t i = 0; i < parameter.value.num_elements(); ++i)
        set_host_element(parameter.value, i, host_element(parameter.value, i) + 0.3 * random.normal());
    }
  }

  [[nodiscard]] const std::vector<ModelParameter>& parameters() { return model_.parameters().all(); }

  double forward() {
    const TensorView logits = model_.forward(batch_.images, true, 7, stream_);
    cross_entropy(
        {.logits = logits, .labels = batch_.labels, .losses = losses_, .loss = loss_, .dlogits = dlogits_},
        stream_);
    stream_.synchronize_blocking();
    return loss_.as<double>()[0] + kLossWeight * model_.auxiliary_loss_blocking();
  }

  /// Of every parameter.
  std::vector<std::vector<double>> gradients() {
    static_cast<void>(forward());
    model_.backward(dlogits_, kLossWeight, stream_);
    stream_.synchronize_blocking();
    std::vector<std::vector<double>> gradients;
    for (const ModelParameter& parameter : parameters()) {
      std::vector<double>& values = gradients.emplace_back();
      for (std::int64_t i = 0; i < parameter.gradient.num_elements(); ++i)
        values.push_back(host_element(parameter.gradient, i));
    }
    return gradients;
  }

  double numeric_gradient_of(const ModelParameter& parameter, std::int64_t element) {
    const double original = host_element(parameter.value, element);
    const auto loss_at = [&](double value) {
      set_host_element(parameter.value, element, value);
      return forward();
    };
    const double above = loss_at(original + kFiniteDifferenceStep);
    const double below = loss_at(original - kFiniteDifferenceStep);
    set_host_element(parameter.value, element, original);
    return (above - below) / (2 * kFiniteDifferenceStep);
  }

 private:
  static constexpr std::int64_t kBatch = 2;

  ProceduralImages images_;
  ImageBatch batch_;
  Stream stream_;
  Tensor losses_, loss_, dlogits_;
  SwinV2Moe model_;
};

TEST_P(ModelGradient, EqualsCentralDifferences) {
  constexpr int kElements = 3;  // of each parameter
  run_ranks({}, std::chrono::seconds(60), [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    LossOfModel model(model_of_case(GetParam()), context);
    const std::vector<std::vector<double>> gradients = model.gradients();
    PhiloxStream random(9, 1);
    for (std::size_t p = 0; p < gradients.size(); ++p) {
      const ModelParameter& parameter = model.parameters()[p];
      if (!parameter.spec.trained) continue;
      double largest = 0;
      for (const double value : gradients[p]) largest = std::max(largest, std::abs(value));
      EXPECT_GT(largest, 0) << parameter.spec.name;
      for (int sample = 0; sample < kElements; ++sample) {
        const std::int64_t element = random.below(parameter.value.num_elements());
        EXPECT_NEAR(gradients[p][static_cast<std::size_t>(element)],
                    model.numeric_gradient_of(parameter, element), kTolerance * largest + kRounding)
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
