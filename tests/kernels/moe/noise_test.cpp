#include "kernels/moe/noise.h"

#include <cmath>

#include "base/philox.h"
#include "tests/support/kernel_test.h"

namespace flex::testing {
namespace {

class GateNoise : public KernelTest {
 protected:
  std::vector<double> run(std::int64_t tokens, std::int64_t experts, const std::vector<double>& logits_values,
                          double stddev, std::int64_t first_token) {
    const Tensor logits = gate_real({tokens, experts}, logits_values);
    Tensor noisy = gate_output({tokens, experts});
    add_gate_noise({.logits = logits,
                    .noisy = noisy,
                    .stddev = stddev,
                    .seed = 42,
                    .iteration = 7,
                    .layer = 3,
                    .first_token = first_token},
                   stream());
    wait();
    return values_of(noisy);
  }
};

// The normal is computed in double, the sum is rounded once; devices may differ in the last bits of the
// normal.
TEST_P(GateNoise, AddsTheDrawOfEachTokenAndExpert) {
  const std::vector<double> logits = {1, 2, 3, -1, -2, -3};
  std::vector<double> expected(6);
  for (std::int64_t i = 0; i < 6; ++i) {
    expected[i] = logits[i] + 0.5 * gate_noise_normal(42, 7, 3, 100 + i / 3, i % 3);
  }
  EXPECT_TRUE(close(run(2, 3, logits, 0.5, 100), expected, 2.0 * unit_roundoff(gate_type())));
}

TEST_P(GateNoise, DoesNotDependOnHowTokensAreSpreadOverRanks) {
  const std::vector<double> logits = random_uniform(60, 1);
  const std::vector<double> whole = run(12, 5, logits, 0.25, 1000);
  std::vector<double> parts = run(5, 5, {logits.begin(), logits.begin() + 25}, 0.25, 1000);
  const std::vector<double> rest = run(7, 5, {logits.begin() + 25, logits.end()}, 0.25, 1005);
  parts.insert(parts.end(), rest.begin(), rest.end());
  EXPECT_EQ(parts, whole);
}

TEST_P(GateNoise, ZeroDeviationCopies) {
  const std::vector<double> logits = {0.5, -0.25, 8};
  EXPECT_EQ(run(1, 3, logits, 0.0, 0), logits);
}

TEST_P(GateNoise, MayAliasItsInputAndTakeNoTokens) {
  Tensor logits = gate_real({2, 3}, {1, 2, 3, -1, -2, -3});
  add_gate_noise({.logits = logits,
                  .noisy = logits,
                  .stddev = 0.5,
                  .seed = 42,
                  .iteration = 7,
                  .layer = 3,
                  .first_token = 100},
                 stream());
  wait();
  EXPECT_EQ(values_of(logits), run(2, 3, {1, 2, 3, -1, -2, -3}, 0.5, 100));
  EXPECT_TRUE(run(0, 3, {}, 0.5, 0).empty());
}

// 10^5 draws: the mean is within 4 / sqrt(10^5) of 0 and the variance within 4 sqrt(2 / 10^5) of 1, four
// deviations each.
TEST_P(GateNoise, HasMeanZeroAndTheGivenDeviation) {
  const std::vector<double> noise = run(1000, 100, std::vector<double>(100000, 0.0), 2.0, 0);
  double sum = 0.0;
  double squares = 0.0;
  for (const double value : noise) {
    sum += value / 2.0;
    squares += value * value / 4.0;
  }
  EXPECT_NEAR(sum / 1e5, 0.0, 4.0 / std::sqrt(1e5));
  EXPECT_NEAR(squares / 1e5, 1.0, 4.0 * std::sqrt(2.0 / 1e5));
}

TEST_P(GateNoise, SaysWhatIsWrong) {
  Tensor logits = gate_output({2, 3});
  GateNoiseArgs args = {.logits = logits, .noisy = logits, .stddev = -1.0};
  EXPECT_EQ(error_text([&] { add_gate_noise(args, stream()); }),
            "add_gate_noise: stddev is -1, expected 0 or more");
  args.stddev = 1.0;
  args.first_token = -1;
  EXPECT_EQ(error_text([&] { add_gate_noise(args, stream()); }),
            "add_gate_noise: first_token is -1, expected 0 or more");
  args.noisy.shape = {2, 2};
  EXPECT_EQ(error_text([&] { add_gate_noise(args, stream()); }),
            "add_gate_noise: noisy is (2, 2), expected (2, 3)");
}

INSTANTIATE_TEST_SUITE_P(Backends, GateNoise, ::testing::ValuesIn(gate_backends()), backend_name);

}  // namespace
}  // namespace flex::testing
