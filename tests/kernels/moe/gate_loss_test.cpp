#include "kernels/moe/gate_loss.h"

#include <numbers>

#include "tests/kernels/moe/loss_case.h"
#include "tests/support/kernel_test.h"

namespace flex::testing {
namespace {

double normal_cdf(double v) { return 0.5 * (1.0 + std::erf(v / std::numbers::sqrt2)); }

class GateLoss : public KernelTest {
 protected:
  double loss(const GateLossSettings& settings, const LossInputs& inputs) {
    LossTensors tensors(inputs, dtype(), device());
    tensors.run_sums(settings, stream());
    return tensors.run_value(settings, stream());
  }
  [[nodiscard]] double tolerance() const { return 64.0 * unit_roundoff(dtype()); }
};

// Scores 3/4, 1/4 and 1/2, 1/2; both first choices are expert 0: 2 / 4 * (5/4 * 2).
TEST_P(GateLoss, GshardMatchesHandWorkedExample) {
  const LossInputs inputs = {.tokens = 2,
                             .experts = 2,
                             .top_k = 1,
                             .clean = {std::log(3), 0, 0, 0},
                             .noise = {0, 0, 0, 0},
                             .indices = {0, 0}};
  LossTensors tensors(inputs, dtype(), device());
  const GateLossSettings settings = {.kind = GateLossKind::kGshard};
  tensors.run_sums(settings, stream());
  EXPECT_TRUE(close(values_of(tensors.sums), {1.25, 0.75, 2, 0, 0, 2}, tolerance()));
  EXPECT_TRUE(close({tensors.run_value(settings, stream())}, {1.25}, tolerance()));
  // Squares of logsumexp are summed where they have a weight.
  tensors.run_sums({.kind = GateLossKind::kGshard, .z_loss_weight = 0.5}, stream());
  const double lse = std::log(4);
  EXPECT_TRUE(close(values_of(tensors.sums),
                    {1.25, 0.75, 2, 0, lse * lse + std::numbers::ln2 * std::numbers::ln2, 2}, tolerance()));
}

// One token, logits 1 and 0, choice 0 without noise, deviation 2 / 2 = 1. Importance 1/(1+1/e) and 1/(1+e);
// the load of expert e is Phi(logit_e - 1), or as released Phi(score_e - 1). cv2 of two values a, b is 2
// (a-b)^2 / (a+b)^2.
TEST_P(GateLoss, LoadImportanceMatchesHandWorkedExample) {
  const LossInputs inputs = {
      .tokens = 1, .experts = 2, .top_k = 1, .clean = {1, 0}, .noise = {0, 0}, .indices = {0}};
  const auto cv2 = [](double a, double b) { return 2.0 * (a - b) * (a - b) / ((a + b) * (a + b) + 4e-10); };
  const double score = 0.7310585786300049;
  const double importance = cv2(score, 1.0 - score);
  EXPECT_TRUE(close({loss({.kind = GateLossKind::kLoadImportance, .gate_noise = 2}, inputs)},
                    {0.5 * (importance + cv2(0.5, 0.1586552539314571))}, tolerance()));
  EXPECT_TRUE(close({loss({.kind = GateLossKind::kLoadImportanceReleased, .gate_noise = 2}, inputs)},
                    {0.5 * (importance + cv2(normal_cdf(score - 1.0), normal_cdf(-score)))}, tolerance()));
}

// The threshold is the noisy logit of the last choice, what is compared with it is clean.
TEST_P(GateLoss, LoadUsesTheNoisyLogitOfTheLastChoice) {
  const LossInputs inputs = {.tokens = 1,
                             .experts = 3,
                             .top_k = 2,
                             .clean = {1, 0.5, 0},
                             .noise = {0.25, -0.25, 0},
                             .indices = {0, 1}};
  LossTensors tensors(inputs, dtype(), device());
  tensors.run_sums({.kind = GateLossKind::kLoadImportance, .gate_noise = 3}, stream());
  const std::vector<double> sums = values_of(tensors.sums);
  EXPECT_TRUE(close({sums[3], sums[4], sums[5]}, {normal_cdf(0.75), normal_cdf(0.25), normal_cdf(-0.25)},
                    tolerance()));
}

// 0.5 * (ln 2)^2 for logits of zero; with a common offset of 3, ln 2 + 3.
TEST_P(GateLoss, ZLossIsTheMeanSquareOfLogSumExp) {
  const LossInputs inputs = {
      .tokens = 2, .experts = 2, .top_k = 1, .clean = {0, 0, 3, 3}, .noise = {9, 0, 9, 0}, .indices = {0, 0}};
  const double ln2 = std::numbers::ln2;
  const double z_loss = 0.5 * (ln2 * ln2 + (ln2 + 3) * (ln2 + 3));
  EXPECT_TRUE(close({loss({.kind = GateLossKind::kNone, .z_loss_weight = 0.5}, inputs)}, {0.5 * z_loss},
                    tolerance()));
  const double gshard = loss({.kind = GateLossKind::kGshard}, inputs);
  EXPECT_TRUE(close({loss({.kind = GateLossKind::kGshard, .z_loss_weight = 2}, inputs)},
                    {gshard + 2.0 * z_loss}, tolerance()));
}

TEST_P(GateLoss, BalancedRoutingIsTheMinimum) {
  LossInputs inputs = random_loss_inputs(4, 4, 1, 1);
  inputs.clean.assign(16, 0.0);
  inputs.noise.assign(16, 0.0);
  inputs.indices = {0, 1, 2, 3};
  EXPECT_TRUE(close({loss({.kind = GateLossKind::kGshard}, inputs)}, {1}, tolerance()));
  EXPECT_NEAR(loss({.kind = GateLossKind::kLoadImportance, .gate_noise = 1}, inputs), 0.0, tolerance());
}

TEST_P(GateLoss, OneExpertHasNoVariation) {
  const LossInputs inputs = random_loss_inputs(5, 1, 1, 1);
  EXPECT_EQ(loss({.kind = GateLossKind::kLoadImportance, .gate_noise = 1}, inputs), 0.0);
  EXPECT_EQ(loss({.kind = GateLossKind::kLoadImportanceReleased, .gate_noise = 1}, inputs), 0.0);
  EXPECT_EQ(loss({.kind = GateLossKind::kGshard}, inputs), 1.0);  // 1 / T^2 * T * T
}

TEST_P(GateLoss, NoTokensGiveZero) {
  const LossInputs inputs = random_loss_inputs(0, 3, 2, 1);
  for (const GateLossSettings& settings : kLossVariants) {
    LossTensors tensors(inputs, dtype(), device());
    tensors.run_sums(settings, stream());
    EXPECT_EQ(values_of(tensors.sums), std::vector<double>(8, 0.0));
    EXPECT_EQ(tensors.run_value(settings, stream()), 0.0);
  }
}

// Two ranks that add up their sums have the sums of one that holds all tokens.
TEST_P(GateLoss, SumsOfRanksAddUp) {
  const LossInputs inputs = random_loss_inputs(37, 7, 3, 1);
  for (const GateLossSettings& settings : kLossVariants) {
    LossTensors whole(inputs, dtype(), device());
    LossTensors first(inputs.slice(0, 14), dtype(), device());
    LossTensors second(inputs.slice(14, 37), dtype(), device());
    whole.run_sums(settings, stream());
    first.run_sums(settings, stream());
    second.run_sums(settings, stream());
    std::vector<double> sum = values_of(first.sums);
    const std::vector<double> other = values_of(second.sums);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += other[i];
    EXPECT_TRUE(close(sum, values_of(whole.sums), tolerance())) << describe(settings, inputs);
  }
}

// Sums over many tokens against plain loops; 37 terms of fp32 error each at most.
TEST_P(GateLoss, SumsMatchTheDefinition) {
  const LossInputs inputs = random_loss_inputs(37, 7, 3, 1);
  const std::vector<double> softmax = softmax_of(inputs.clean, 7);
  const std::vector<double> scores = softmax_of(inputs.noisy(), 7);
  for (const GateLossSettings& settings : kLossVariants) {
    std::vector<double> expected(16, 0.0);
    for (std::int64_t i = 0; i < std::ssize(softmax); ++i) {
      const std::int64_t token = i / 7;
      const auto last = static_cast<std::int64_t>(inputs.indices[token * 3 + 2]);
      const double threshold = inputs.noisy()[token * 7 + last];
      const bool released = settings.kind == GateLossKind::kLoadImportanceReleased;
      if (settings.kind == GateLossKind::kGshard) {
        expected[i % 7] += scores[i];
        expected[7 + i % 7] += inputs.indices[token * 3] == static_cast<double>(i % 7) ? 1.0 : 0.0;
      } else if (settings.kind != GateLossKind::kNone) {
        expected[i % 7] += softmax[i];
        const double compared = released ? softmax[i] : inputs.clean[i];
        expected[7 + i % 7] += normal_cdf((compared - threshold) / (settings.gate_noise / 7));
      }
      if (i % 7 != 0) continue;
      double sum = 0.0;
      for (std::int64_t e = 0; e < 7; ++e) sum += std::exp(inputs.clean[i + e]);
      if (settings.z_loss_weight != 0.0) expected[14] += std::log(sum) * std::log(sum);
      expected[15] += 1.0;
    }
    LossTensors tensors(inputs, dtype(), device());
    tensors.run_sums(settings, stream());
    EXPECT_TRUE(close(values_of(tensors.sums), expected, tolerance())) << describe(settings, inputs);
  }
}

TEST(GateLossNames, ParseWhatTheyPrint) {
  for (const GateLossKind kind : {GateLossKind::kNone, GateLossKind::kGshard, GateLossKind::kLoadImportance,
                                  GateLossKind::kLoadImportanceReleased}) {
    EXPECT_EQ(parse_gate_loss(name(kind)), kind);
  }
  EXPECT_EQ(parse_gate_loss("importance"), std::nullopt);
}

TEST_P(GateLoss, SaysWhatIsWrong) {
  const LossInputs inputs = random_loss_inputs(3, 2, 1, 1);
  LossTensors tensors(inputs, dtype(), device());
  EXPECT_EQ(error_text([&] { tensors.run_sums({.kind = GateLossKind::kLoadImportance}, stream()); }),
            "gate_loss_sums: load_importance needs gate_noise > 0, got 0");
  EXPECT_EQ(error_text([&] {
              tensors.run_sums({.kind = GateLossKind::kLoadImportanceReleased, .gate_noise = -1}, stream());
            }),
            "gate_loss_sums: load_importance_released needs gate_noise > 0, got -1");
  EXPECT_EQ(error_text([&] { tensors.run_sums({.z_loss_weight = INFINITY}, stream()); }),
            "gate_loss_sums: z_loss_weight is inf, expected a finite number");
  tensors.indices = int_output({3, 3});
  EXPECT_EQ(error_text([&] { tensors.run_sums({}, stream()); }),
            "gate_loss_sums: top-k is 3, expected 1 to the 2 experts");
  tensors.noisy = gate_output({3, 4});
  EXPECT_EQ(error_text([&] { tensors.run_sums({}, stream()); }),
            "gate_loss_sums: noisy is (3, 4), expected (3, 2)");
  tensors.sums = poisoned_tensor({7}, DType::kF64, device());
  EXPECT_EQ(error_text([&] { (void)tensors.run_value({}, stream()); }),
            "gate_loss_value: sums has 7 elements, expected 2 E + 2 for some E");
}

INSTANTIATE_TEST_SUITE_P(Backends, GateLoss, ::testing::ValuesIn(gate_backends()), backend_name);

}  // namespace
}  // namespace flex::testing
