#include "tests/kernels/moe/loss_case.h"
#include "tests/support/finite_difference.h"
#include "tests/support/kernel_test.h"

namespace flex::testing {
namespace {

class GateLossBackward : public KernelTest {
 protected:
  /// Gradient of `dvalue` times the loss of these tokens alone.
  std::vector<double> gradient(const GateLossSettings& settings, const LossInputs& inputs, double dvalue) {
    LossTensors tensors(inputs, dtype(), device());
    tensors.run_sums(settings, stream());
    Tensor dlogits = zeros(inputs);
    tensors.run_backward(settings, dvalue, dlogits, stream());
    return values_of(dlogits);
  }
  [[nodiscard]] Tensor zeros(const LossInputs& inputs) const {
    return Tensor::zeros(dtype(), {inputs.tokens, inputs.experts}, device());
  }
};
class GateLossGradient : public GateLossBackward {};

// Scores 3/4, 1/4 and 1/2, 1/2, n = (2, 0): ds = 2 / 4 * n = (1, 0), dlogit = s (ds - <s, ds>).
TEST_P(GateLossBackward, GshardMatchesHandWorkedExample) {
  const LossInputs inputs = {.tokens = 2,
                             .experts = 2,
                             .top_k = 1,
                             .clean = {std::log(3), 0, 0, 0},
                             .noise = {0, 0, 0, 0},
                             .indices = {0, 0}};
  EXPECT_TRUE(close(gradient({.kind = GateLossKind::kGshard}, inputs, 2.0), {0.375, -0.375, 0.5, -0.5},
                    16.0 * unit_roundoff(dtype())));
}

TEST_P(GateLossBackward, AddsToWhatIsThere) {
  const LossInputs inputs = random_loss_inputs(5, 4, 2, 1);
  for (const GateLossSettings& settings : kLossVariants) {
    std::vector<double> expected = gradient(settings, inputs, 0.5);
    for (double& value : expected) value += 3.0;
    LossTensors tensors(inputs, dtype(), device());
    tensors.run_sums(settings, stream());
    Tensor dlogits = gate_real({5, 4}, std::vector<double>(20, 3.0));
    tensors.run_backward(settings, 0.5, dlogits, stream());
    EXPECT_TRUE(close(values_of(dlogits), expected, 8.0 * unit_roundoff(dtype())))
        << describe(settings, inputs);
  }
}

TEST_P(GateLossBackward, OneExpertAndNoTokensHaveNoGradient) {
  const LossInputs one = random_loss_inputs(5, 1, 1, 1);
  for (const auto kind :
       {GateLossKind::kGshard, GateLossKind::kLoadImportance, GateLossKind::kLoadImportanceReleased}) {
    EXPECT_EQ(gradient({.kind = kind, .gate_noise = 1}, one, 1.0), std::vector<double>(5, 0.0)) << name(kind);
  }
  for (const GateLossSettings& settings : kLossVariants) {
    EXPECT_TRUE(gradient(settings, random_loss_inputs(0, 3, 2, 1), 1.0).empty());
  }
}

// Each rank holds a part of the tokens and the sums over all of them.
TEST_P(GateLossBackward, PartsWithTheSumsOfAllGiveTheRowsOfTheWhole) {
  const LossInputs inputs = random_loss_inputs(11, 5, 2, 1);
  for (const GateLossSettings& settings : kLossVariants) {
    const std::vector<double> expected = gradient(settings, inputs, 1.0);
    LossTensors whole(inputs, dtype(), device());
    whole.run_sums(settings, stream());
    std::vector<double> actual;
    for (const auto& [begin, end] : {std::pair{0, 4}, {4, 4}, {4, 11}}) {
      const LossInputs part = inputs.slice(begin, end);
      LossTensors tensors(part, dtype(), device());
      assign(tensors.sums, values_of(whole.sums));
      Tensor dlogits = zeros(part);
      tensors.run_backward(settings, 1.0, dlogits, stream());
      const std::vector<double> rows = values_of(dlogits);
      actual.insert(actual.end(), rows.begin(), rows.end());
    }
    EXPECT_EQ(actual, expected) << describe(settings, inputs);
  }
}

// fp32, and CUDA, against fp64 on the CPU, which the finite differences hold. The load's density amplifies an
// error of the margin by the margin itself and 1 / deviation, at most some tens here.
TEST_P(GateLossBackward, MatchesDouble) {
  Stream host(Device::cpu());
  for (const LossInputs& inputs : {random_loss_inputs(37, 7, 3, 1), random_loss_inputs(300, 64, 2, 2)}) {
    for (const GateLossSettings& settings : kLossVariants) {
      LossTensors exact(inputs, DType::kF64, Device::cpu());
      exact.run_sums(settings, host);
      Tensor expected = Tensor::zeros(DType::kF64, {inputs.tokens, inputs.experts});
      exact.run_backward(settings, 1.0, expected, host);
      EXPECT_TRUE(
          close(gradient(settings, inputs, 1.0), values_of(expected), 1000.0 * unit_roundoff(dtype())))
          << describe(settings, inputs);
    }
  }
}

// Noise is a constant: noisy logits follow the clean ones. First choices, and so n_e, stay what they are. The
// load's deviation of 0.1 to 0.4 makes the third derivative some thousands of the first.
TEST_P(GateLossGradient, MatchesFiniteDifferences) {
  for (LossInputs inputs : {random_loss_inputs(5, 4, 2, 1), random_loss_inputs(7, 3, 3, 2),
                            random_loss_inputs(4, 6, 1, 3), random_loss_inputs(3, 1, 1, 4)}) {
    for (const GateLossSettings& settings : kLossVariants) {
      Tensor clean = gate_real({inputs.tokens, inputs.experts}, inputs.clean);
      const auto loss = [&] {
        LossInputs moved = inputs;
        moved.clean = values_of(clean);
        LossTensors tensors(moved, dtype(), device());
        tensors.run_sums(settings, stream());
        return 0.7 * tensors.run_value(settings, stream());
      };
      EXPECT_TRUE(close(gradient(settings, inputs, 0.7), numeric_gradient(clean, loss), 1e-6))
          << describe(settings, inputs);
    }
  }
}

TEST_P(GateLossBackward, SaysWhatIsWrong) {
  const LossInputs inputs = random_loss_inputs(3, 2, 1, 1);
  LossTensors tensors(inputs, dtype(), device());
  Tensor dlogits = gate_output({2, 3});
  EXPECT_EQ(error_text([&] { tensors.run_backward({}, 1.0, dlogits, stream()); }),
            "gate_loss_backward: dlogits is (2, 3), expected (3, 2)");
  EXPECT_EQ(error_text([&] {
              tensors.run_backward({.kind = GateLossKind::kLoadImportance}, 1.0, dlogits, stream());
            }),
            "gate_loss_backward: load_importance needs gate_noise > 0, got 0");
  tensors.sums = poisoned_tensor({8}, DType::kF64, device());
  EXPECT_EQ(error_text([&] { tensors.run_backward({}, 1.0, dlogits, stream()); }),
            "gate_loss_backward: sums is (8), expected (6)");
}

INSTANTIATE_TEST_SUITE_P(Backends, GateLossBackward, ::testing::ValuesIn(gate_backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, GateLossGradient, ::testing::ValuesIn(double_backend()), backend_name);

}  // namespace
}  // namespace flex::testing
