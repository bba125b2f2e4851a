#include "tests/kernels/moe/ffn_case.h"
#include "tests/support/finite_difference.h"
#include "tests/support/kernel_test.h"

namespace flex::testing {
namespace {

class ExpertFfnBackward : public KernelTest {
 protected:
  FfnCase make_case(const FfnVariant& variant, const FfnSizes& sizes) {
    return {variant, sizes, dtype(), device()};
  }
  static void run(FfnCase& ffn, Stream& stream) {
    expert_ffn(ffn.forward(), stream);
    expert_ffn_backward_data(ffn.backward_data(), stream);
    expert_ffn_backward_weights(ffn.backward_weights(), stream);
    stream.synchronize_blocking();
  }
};
class ExpertFfnGradient : public ExpertFfnBackward {};

// The forward example: x = (1, 2), hidden 1, -2, 2. dy = (1, -1): da = dy . rows of fc2_w = -1 each, stopped
// by relu where hidden is negative.
TEST_P(ExpertFfnBackward, MatchesHandWorkedExample) {
  FfnCase ffn = make_case({.activation = Activation::kRelu}, {1, 1, 2, 3});
  assign(ffn.x, {1, 2});
  assign(ffn.dy, {1, -1});
  assign(ffn.fc1_w, {1, 0, 0, -1, 1, 1});
  assign(ffn.fc1_bias, {0, 0, -1});
  assign(ffn.fc2_w, {1, 2, 3, 4, 5, 6});
  run(ffn, stream());
  EXPECT_EQ(values_of(ffn.dhidden), (std::vector<double>{-1, 0, -1}));
  EXPECT_EQ(values_of(ffn.dx), (std::vector<double>{-2, -1}));
  EXPECT_EQ(values_of(ffn.dfc1_w), (std::vector<double>{-1, -2, 0, 0, -1, -2}));
  EXPECT_EQ(values_of(ffn.dfc1_bias), (std::vector<double>{-1, 0, -1}));
  EXPECT_EQ(values_of(ffn.dfc2_w), (std::vector<double>{1, -1, 0, 0, 2, -2}));
  EXPECT_EQ(values_of(ffn.dfc2_bias), (std::vector<double>{1, -1}));
}

TEST_P(ExpertFfnGradient, MatchesFiniteDifferences) {
  for (const FfnVariant& variant : kFfnVariants) {
    for (const FfnSizes& s : {FfnSizes{1, 1, 1, 1}, {2, 3, 4, 5}, {3, 2, 5, 2}}) {
      FfnCase ffn = make_case(variant, s);
      const auto loss = [&] {
        expert_ffn(ffn.forward(), stream());
        wait();
        return inner_product(values_of(ffn.y), values_of(ffn.dy));
      };
      run(ffn, stream());
      const auto check = [&](const Tensor& analytic, Tensor& variable) {
        return close(values_of(analytic), numeric_gradient(variable, loss), kFiniteDifferenceTolerance);
      };
      EXPECT_TRUE(check(ffn.dx, ffn.x)) << describe(variant, s);
      EXPECT_TRUE(check(ffn.dfc1_w, ffn.fc1_w)) << describe(variant, s);
      EXPECT_TRUE(check(ffn.dfc2_w, ffn.fc2_w)) << describe(variant, s);
      if (variant.kind == FfnKind::kGated) {
        EXPECT_TRUE(check(ffn.dup_w, ffn.up_w)) << describe(variant, s);
      }
      if (!variant.biases) continue;
      EXPECT_TRUE(check(ffn.dfc1_bias, ffn.fc1_bias)) << describe(variant, s);
      EXPECT_TRUE(check(ffn.dfc2_bias, ffn.fc2_bias)) << describe(variant, s);
    }
  }
}

// Every backend against fp64 on the CPU, which the finite differences hold.
TEST_P(ExpertFfnBackward, MatchesDoubleForAllShapes) {
  Stream host(Device::cpu());
  for (const FfnVariant& variant : kFfnVariants) {
    for (const FfnSizes& s : kFfnSizes) {
      FfnCase ffn = make_case(variant, s);
      FfnCase exact(variant, s, DType::kF64, Device::cpu());
      exact.round_inputs_to(dtype());
      run(ffn, stream());
      run(exact, host);
      const auto check = [&](const Tensor& actual, const Tensor& expected, std::int64_t inner,
                             std::int64_t outer) {
        if (expected.shape().rank() == 0) return ::testing::AssertionSuccess();
        // Through up, a gated expert multiplies two rounded sums.
        return close(values_of(actual), values_of(expected), 2.0 * ffn_tolerance(dtype(), inner, outer));
      };
      const std::string what = describe(variant, s);
      EXPECT_TRUE(check(ffn.dhidden, exact.dhidden, s.model_dim, s.model_dim)) << what;
      EXPECT_TRUE(check(ffn.dup, exact.dup, s.model_dim, s.model_dim)) << what;
      EXPECT_TRUE(check(ffn.dx, exact.dx, s.model_dim, s.hidden_dim)) << what;
      EXPECT_TRUE(check(ffn.dfc1_w, exact.dfc1_w, s.model_dim, s.rows)) << what;
      EXPECT_TRUE(check(ffn.dup_w, exact.dup_w, s.model_dim, s.rows)) << what;
      EXPECT_TRUE(check(ffn.dfc2_w, exact.dfc2_w, s.model_dim, s.rows)) << what;
      EXPECT_TRUE(check(ffn.dfc1_bias, exact.dfc1_bias, s.model_dim, s.rows)) << what;
      EXPECT_TRUE(check(ffn.dfc2_bias, exact.dfc2_bias, 0, s.rows)) << what;
    }
  }
}

TEST_P(ExpertFfnBackward, ChunksOfALargerBufferGiveTheSameRows) {
  for (const FfnVariant& variant : kFfnVariants) {
    const FfnSizes s = {3, 10, 9, 14};
    FfnCase whole = make_case(variant, s);
    FfnCase chunked = make_case(variant, s);
    run(whole, stream());
    expert_ffn(chunked.forward(), stream());
    for (const auto& [begin, count] : {std::pair{0, 3}, {3, 0}, {3, 7}}) {
      ExpertFfnBackwardDataArgs args = chunked.backward_data();
      args.dy = args.dy.narrowed(begin, count);
      args.hidden = args.hidden.narrowed(begin, count);
      args.dhidden = args.dhidden.narrowed(begin, count);
      if (args.up.present()) args.up = args.up.narrowed(begin, count);
      if (args.dup.present()) args.dup = args.dup.narrowed(begin, count);
      args.dx = args.dx.narrowed(begin, count);
      expert_ffn_backward_data(args, stream());
    }
    wait();
    const double tolerance = ffn_tolerance(dtype(), s.model_dim, s.hidden_dim);
    EXPECT_TRUE(close(values_of(chunked.dx), values_of(whole.dx), tolerance)) << describe(variant, s);
    EXPECT_TRUE(close(values_of(chunked.dhidden), values_of(whole.dhidden), tolerance))
        << describe(variant, s);
  }
}

// dW2 first, then dhidden over hidden by way of a tile that does not divide the rows, dx over dy, dup over
// up.
TEST_P(ExpertFfnBackward, GradientsMayTakeThePlaceOfTheirRows) {
  for (const FfnVariant& variant : kFfnVariants) {
    for (const std::int64_t tile_rows : {1, 4, 10, 16}) {
      const FfnSizes s = {3, 10, 9, 14};
      FfnCase apart = make_case(variant, s);
      FfnCase ffn = make_case(variant, s);
      run(apart, stream());
      expert_ffn(ffn.forward(), stream());
      expert_ffn_backward_fc2(ffn.backward_weights(), stream());
      Tensor tile = real_output({s.experts, tile_rows, s.hidden_dim});
      expert_ffn_backward_data(ffn.backward_data_in_place(tile), stream());
      expert_ffn_backward_fc1(ffn.backward_weights_in_place(), stream());
      wait();
      const double rows_tolerance = ffn_tolerance(dtype(), s.model_dim, s.hidden_dim);
      const double sums_tolerance = ffn_tolerance(dtype(), s.model_dim, s.rows);
      const std::string what = describe(variant, s);
      EXPECT_TRUE(close(values_of(ffn.hidden), values_of(apart.dhidden), rows_tolerance)) << what;
      EXPECT_TRUE(close(values_of(ffn.up), values_of(apart.dup), rows_tolerance)) << what;
      EXPECT_TRUE(close(values_of(ffn.dy), values_of(apart.dx), rows_tolerance)) << what;
      EXPECT_TRUE(close(values_of(ffn.dfc1_w), values_of(apart.dfc1_w), sums_tolerance)) << what;
      EXPECT_TRUE(close(values_of(ffn.dup_w), values_of(apart.dup_w), sums_tolerance)) << what;
      EXPECT_TRUE(close(values_of(ffn.dfc1_bias), values_of(apart.dfc1_bias), sums_tolerance)) << what;
      EXPECT_EQ(values_of(ffn.dfc2_w), values_of(apart.dfc2_w)) << what;
      EXPECT_EQ(values_of(ffn.dfc2_bias), values_of(apart.dfc2_bias)) << what;
    }
  }
}

TEST_P(ExpertFfnBackward, ActivationMayOverwriteHidden) {
  for (const FfnVariant& variant : kFfnVariants) {
    FfnCase ffn = make_case(variant, {2, 5, 7, 12});
    run(ffn, stream());
    const std::vector<double> dfc2_w = values_of(ffn.dfc2_w);
    const std::vector<double> dfc1_w = values_of(ffn.dfc1_w);
    ExpertFfnBackwardWeightsArgs args = ffn.backward_weights();
    args.activated = ffn.hidden;
    expert_ffn_backward_weights(args, stream());
    wait();
    EXPECT_EQ(values_of(ffn.dfc2_w), dfc2_w);
    EXPECT_EQ(values_of(ffn.dfc1_w), dfc1_w);
  }
}

// Columns [5, 8) of a model of 7: two columns and one entry of padding, which gets zero.
TEST_P(ExpertFfnBackward, BiasSliceGetsItsColumnsAndZeroPadding) {
  FfnCase ffn = make_case({}, {2, 5, 7, 12});
  run(ffn, stream());
  const std::vector<double> whole = values_of(ffn.dfc2_bias);
  Tensor slice = real_output({2, 3});
  ExpertFfnBackwardWeightsArgs args = ffn.backward_weights();
  args.gradients.fc2_bias = slice;
  args.fc2_bias_begin = 5;
  expert_ffn_backward_weights(args, stream());
  wait();
  EXPECT_EQ(values_of(slice), (std::vector<double>{whole[5], whole[6], 0, whole[12], whole[13], 0}));
  args.fc2_bias_begin = 7;
  expert_ffn_backward_weights(args, stream());
  wait();
  EXPECT_EQ(values_of(slice), std::vector<double>(6, 0.0));
}

TEST_P(ExpertFfnBackward, BiasThatIsLeftOutIsNotComputed) {
  FfnCase ffn = make_case({}, {2, 5, 7, 12});
  expert_ffn(ffn.forward(), stream());
  expert_ffn_backward_data(ffn.backward_data(), stream());
  ExpertFfnBackwardWeightsArgs args = ffn.backward_weights();
  args.gradients.fc1_bias = {};
  args.gradients.fc2_bias = {};
  expert_ffn_backward_weights(args, stream());
  wait();
  for (const double value : values_of(ffn.dfc1_bias)) EXPECT_TRUE(std::isnan(value));
  for (const double value : values_of(ffn.dfc2_w)) EXPECT_FALSE(std::isnan(value));
}

TEST_P(ExpertFfnBackward, SaysWhatIsWrong) {
  FfnCase ffn = make_case({}, {2, 5, 7, 12});
  ExpertFfnBackwardDataArgs data = ffn.backward_data();
  data.dx.shape = {2, 5, 8};
  EXPECT_EQ(error_text([&] { expert_ffn_backward_data(data, stream()); }),
            "expert_ffn_backward_data: dx is (2, 5, 8), expected (2, 5, 7)");
  data.dup = data.dhidden;
  EXPECT_EQ(error_text([&] { expert_ffn_backward_data(data, stream()); }),
            "expert_ffn_backward_data: dup is given, but has no use in standard experts");
  ExpertFfnBackwardWeightsArgs weights = ffn.backward_weights();
  weights.dhidden.shape = {2, 4, 12};
  EXPECT_EQ(error_text([&] { expert_ffn_backward_fc1(weights, stream()); }),
            "expert_ffn_backward_fc1: dhidden is (2, 4, 12), expected (2, 5, 12)");
  weights.kind = FfnKind::kGated;
  EXPECT_EQ(error_text([&] { expert_ffn_backward_fc1(weights, stream()); }),
            "expert_ffn_backward_fc1: up_w is missing, expected (2, 12, 7)");
  EXPECT_EQ(error_text([&] { expert_ffn_backward_fc2(weights, stream()); }),
            "expert_ffn_backward_fc2: fc2_bias is given, but has no use in gated experts");
  data = ffn.backward_data();
  data.dhidden = ffn.hidden;
  EXPECT_EQ(error_text([&] { expert_ffn_backward_data(data, stream()); }),
            "expert_ffn_backward_data: dhidden is the memory of hidden, which needs a tile");
  data.tile = ffn.y;
  EXPECT_EQ(error_text([&] { expert_ffn_backward_data(data, stream()); }),
            "expert_ffn_backward_data: tile is (2, 5, 7), expected (2, 5, 12)");
}

INSTANTIATE_TEST_SUITE_P(Backends, ExpertFfnBackward, ::testing::ValuesIn(all_backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, ExpertFfnGradient, ::testing::ValuesIn(double_backend()), backend_name);

}  // namespace
}  // namespace flex::testing
