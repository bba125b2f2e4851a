#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <ostream>

#include "tests/support/reference_layer.h"

namespace flex::testing {
namespace {

struct GradientCase {
  std::string name;
  ReferenceConfig config;
  ReferenceCall call;
  double temperature = 0.7;  ///< of the cosine gate
};
std::ostream& operator<<(std::ostream& out, const GradientCase& test) { return out << test.name; }

std::vector<GradientCase> gradient_cases() {
  using Gate = ReferenceGate;
  using Loss = ReferenceLoss;
  using Activation = ReferenceActivation;
  return {
      {"top1_drops", {}, {.top_k = 1, .capacity_factor = 0.5}},
      {"top2_drops_relu", {.activation = Activation::kRelu}, {.top_k = 2, .capacity_factor = 0.6}},
      {"top2_unnormalized",
       {.normalize_gate = false, .batch_prioritized = true},
       {.top_k = 2, .capacity_factor = 0}},
      {"top3_prescore",
       {.activation = Activation::kSilu, .is_postscore = false},
       {.top_k = 3, .capacity_factor = -1}},
      {"top1_prescore_drops", {.is_postscore = false}, {.top_k = 1, .capacity_factor = 0.5}},
      {"every_expert", {.loss = Loss::kNone, .z_loss_weight = 0.3}, {.top_k = 4, .capacity_factor = 1}},
      {"no_capacity", {.z_loss_weight = 0.3}, {.top_k = 2, .capacity_factor = 0.1}},
      {"no_bias", {.has_fc2_bias = false, .local_loss_scope = true}, {.top_k = 2, .capacity_factor = 1}},
      {"gated", {.gated = true, .batch_prioritized = true}, {.top_k = 2, .capacity_factor = 0.6}},
      {"gated_prescore", {.gated = true, .is_postscore = false}, {.top_k = 2, .capacity_factor = 0.6}},
      {"cosine", {.gate = Gate::kCosine, .proj_dim = 3}, {.top_k = 2, .capacity_factor = 1}},
      // exp(ln 100) = 100 makes the logits steep, so that the differences of the losses are less exact.
      {"cosine_clamped", {.gate = Gate::kCosine, .proj_dim = 3}, {.top_k = 2, .capacity_factor = 1}, 5.0},
      {"load_importance",
       {.loss = Loss::kLoadImportance, .gate_noise = 1.5, .z_loss_weight = 0.3},
       {.top_k = 2, .capacity_factor = 1, .add_noise = true, .seed = 9}},
      {"load_importance_unnoised",
       {.loss = Loss::kLoadImportance, .gate_noise = 1.0, .local_loss_scope = true},
       {.top_k = 1, .capacity_factor = 1}},
      {"released",
       {.gate = Gate::kCosine, .proj_dim = 3, .loss = Loss::kLoadImportanceReleased, .gate_noise = 1.5},
       {.top_k = 2, .capacity_factor = 1, .add_noise = true, .seed = 9}},
      {"released_local",
       {.loss = Loss::kLoadImportanceReleased, .gate_noise = 1.0, .local_loss_scope = true},
       {.top_k = 1, .capacity_factor = 0, .add_noise = true, .seed = 4}},
  };
}

class ReferenceGradient : public ::testing::TestWithParam<GradientCase> {
 protected:
  void SetUp() override {
    config_ = GetParam().config;
    config_.model_dim = 5;
    config_.hidden_dim = 6;
    config_.num_experts = 4;
    call_ = GetParam().call;
    call_.aux_weight = 0.7;
    parameters_ = random_parameters(config_, 1);
    if (config_.gate == ReferenceGate::kCosine) parameters_.temperature = {GetParam().temperature};
    for (const std::int64_t num_tokens : {7, 0, 9}) {
      const auto seed = static_cast<std::uint64_t>(num_tokens);
      tokens_.push_back({.x = random_values(num_tokens * config_.model_dim, 2 * seed),
                         .dy = random_values(num_tokens * config_.model_dim, 2 * seed + 1)});
    }
    result_ = reference_layer(config_, parameters_, call_, tokens_);
  }

  /// Total loss, and a failure if the choices differ from those of result_: there the loss has a step.
  [[nodiscard]] double loss() const {
    const ReferenceResult result = reference_forward(config_, parameters_, call_, tokens_);
    for (std::size_t r = 0; r < tokens_.size(); ++r) {
      EXPECT_EQ(result.ranks[r].indices, result_.ranks[r].indices);
      EXPECT_EQ(result.ranks[r].locations, result_.ranks[r].locations);
    }
    return result.total_loss;
  }

  /// Compares with the central differences by every element of `values`, which loss() reads.
  void check(const std::string& what, std::vector<double>& values, const std::vector<double>& gradient) {
    // Rounding: 2e-16 times a loss of about 10 over the step, so 2e-9 at most. Truncation: step^2 / 6 times a
    // third derivative, which the clamped gate's scale of 100 makes large. Seen: 4e-10, and 1e-9 for the
    // clamped gate.
    const double step = GetParam().temperature > 1.0 ? 1e-6 : 1e-5;
    constexpr double kTolerance = 1e-8;
    ASSERT_EQ(values.size(), gradient.size()) << what;
    double largest = 0.0;
    for (const double value : gradient) largest = std::max(largest, std::abs(value));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double saved = values[i];
      values[i] = saved + step;
      const double above = loss();
      values[i] = saved - step;
      const double below = loss();
      values[i] = saved;
      EXPECT_NEAR(gradient[i], (above - below) / (2 * step), kTolerance * std::max(1.0, largest))
          << what << " " << i;
    }
  }

  ReferenceConfig config_;
  ReferenceCall call_;
  ReferenceParameters parameters_;
  std::vector<ReferenceTokens> tokens_;
  ReferenceResult result_;
};

TEST_P(ReferenceGradient, EqualsFiniteDifferences) {
  const auto values = list_parameters(parameters_);
  const auto gradients = list_parameters(result_.gradients);
  for (std::size_t i = 0; i < values.size(); ++i)
    check(values[i].first, *values[i].second, *gradients[i].second);
  for (std::size_t r = 0; r < tokens_.size(); ++r) check("x", tokens_[r].x, result_.ranks[r].dx);
}

INSTANTIATE_TEST_SUITE_P(Cases, ReferenceGradient, ::testing::ValuesIn(gradient_cases()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace flex::testing
