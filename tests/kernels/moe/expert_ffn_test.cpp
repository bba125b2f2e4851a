#include "kernels/moe/expert_ffn.h"

#include <numbers>

#include "tests/kernels/moe/ffn_case.h"
#include "tests/support/kernel_test.h"

namespace flex::testing {
namespace {

class ExpertFfn : public KernelTest {
 protected:
  FfnCase make_case(const FfnVariant& variant, const FfnSizes& sizes) {
    return {variant, sizes, dtype(), device()};
  }
  void forward(const ExpertFfnArgs& args) {
    expert_ffn(args, stream());
    wait();
  }
};

// x = (1, 2): pre-activations 1, -2 and 3 - 1, of which relu keeps 1, 0 and 2, y = (1, 2) + 2 (5, 6) + (0.5,
// -0.5).
TEST_P(ExpertFfn, MatchesHandWorkedExample) {
  FfnCase ffn = make_case({.activation = Activation::kRelu}, {1, 1, 2, 3});
  assign(ffn.x, {1, 2});
  assign(ffn.fc1_w, {1, 0, 0, -1, 1, 1});
  assign(ffn.fc1_bias, {0, 0, -1});
  assign(ffn.fc2_w, {1, 2, 3, 4, 5, 6});
  assign(ffn.fc2_bias, {0.5, -0.5});
  forward(ffn.forward());
  EXPECT_EQ(values_of(ffn.hidden), (std::vector<double>{1, 0, 2}));
  EXPECT_EQ(values_of(ffn.y), (std::vector<double>{11.5, 13.5}));
}

// x = 1: silu(1) * 3 * 2.
TEST_P(ExpertFfn, GatedMatchesHandWorkedExample) {
  FfnCase ffn = make_case({.kind = FfnKind::kGated, .biases = false}, {1, 1, 1, 1});
  assign(ffn.x, {1});
  assign(ffn.fc1_w, {1});
  assign(ffn.up_w, {3});
  assign(ffn.fc2_w, {2});
  forward(ffn.forward());
  EXPECT_EQ(values_of(ffn.hidden), (std::vector<double>{1}));
  EXPECT_EQ(values_of(ffn.up), (std::vector<double>{3}));
  EXPECT_TRUE(close(values_of(ffn.y), {6.0 * 0.7310585786300049}, 4.0 * unit_roundoff(dtype())));
}

// Values of the functions to 16 digits: x Phi(x) with Phi(1) = 0.8413447460685429, x / (1 + exp(-x)).
TEST_P(ExpertFfn, ActivationsAreTheExactFunctions) {
  const std::vector<double> at = {-1, 0, 1};
  const std::vector<std::pair<Activation, std::vector<double>>> expected = {
      {Activation::kGelu, {-0.1586552539314571, 0, 0.8413447460685429}},
      {Activation::kRelu, {0, 0, 1}},
      {Activation::kSilu, {-0.2689414213699951, 0, 0.7310585786300049}}};
  for (const auto& [activation, values] : expected) {
    FfnCase ffn = make_case({.activation = activation, .biases = false}, {1, 3, 1, 1});
    assign(ffn.x, at);
    assign(ffn.fc1_w, {1});
    assign(ffn.fc2_w, {1});
    forward(ffn.forward());
    EXPECT_TRUE(close(values_of(ffn.y), values, 4.0 * unit_roundoff(dtype()))) << name(activation);
  }
}

double activate(const FfnVariant& variant, double v) {
  if (variant.kind == FfnKind::kGated || variant.activation == Activation::kSilu)
    return v / (1.0 + std::exp(-v));
  if (variant.activation == Activation::kRelu) return std::max(v, 0.0);
  return v * 0.5 * (1.0 + std::erf(v / std::numbers::sqrt2));
}

TEST_P(ExpertFfn, MatchesTheDefinitionForAllShapes) {
  for (const FfnVariant& variant : kFfnVariants) {
    for (const FfnSizes& s : kFfnSizes) {
      FfnCase ffn = make_case(variant, s);
      forward(ffn.forward());

      const auto optional = [](const Tensor& t) {
        return t.shape().rank() == 0 ? std::vector<double>{} : values_of(t);
      };
      const std::vector<double> x = values_of(ffn.x);
      const std::vector<double> fc1_w = values_of(ffn.fc1_w);
      const std::vector<double> fc2_w = values_of(ffn.fc2_w);
      const std::vector<double> up_w = optional(ffn.up_w);
      const std::vector<double> fc1_bias = optional(ffn.fc1_bias);
      const std::vector<double> fc2_bias = optional(ffn.fc2_bias);
      std::vector<double> expected(x.size(), 0.0);
      for (std::int64_t row = 0; row < s.experts * s.rows; ++row) {
        const std::int64_t expert = row / s.rows;
        for (std::int64_t f = expert * s.hidden_dim; f < (expert + 1) * s.hidden_dim; ++f) {
          double hidden = fc1_bias.empty() ? 0.0 : fc1_bias[f];
          double up = up_w.empty() ? 1.0 : 0.0;
          for (std::int64_t c = 0; c < s.model_dim; ++c) {
            hidden += x[row * s.model_dim + c] * fc1_w[f * s.model_dim + c];
            if (!up_w.empty()) up += x[row * s.model_dim + c] * up_w[f * s.model_dim + c];
          }
          for (std::int64_t c = 0; c < s.model_dim; ++c) {
            expected[row * s.model_dim + c] += activate(variant, hidden) * up * fc2_w[f * s.model_dim + c];
          }
        }
        for (std::int64_t c = 0; c < s.model_dim && !fc2_bias.empty(); ++c) {
          expected[row * s.model_dim + c] += fc2_bias[expert * s.model_dim + c];
        }
      }
      EXPECT_TRUE(close(values_of(ffn.y), expected, ffn_tolerance(dtype(), s.model_dim, s.hidden_dim)))
          << describe(variant, s);
    }
  }
}

// Rows [begin, begin + count) of every expert, a stride apart; rows outside of the chunks stay poisoned.
TEST_P(ExpertFfn, ChunksOfALargerBufferGiveTheSameRows) {
  for (const FfnVariant& variant : kFfnVariants) {
    const FfnSizes s = {3, 11, 9, 14};
    FfnCase whole = make_case(variant, s);
    FfnCase chunked = make_case(variant, s);
    forward(whole.forward());
    for (const auto& [begin, count] : {std::pair{0, 4}, {4, 0}, {4, 6}}) {
      ExpertFfnArgs args = chunked.forward();
      args.x = args.x.narrowed(begin, count);
      args.hidden = args.hidden.narrowed(begin, count);
      if (args.up.present()) args.up = args.up.narrowed(begin, count);
      args.activated = args.activated.narrowed(begin, count);
      args.y = args.y.narrowed(begin, count);
      forward(args);
    }
    std::vector<double> expected = values_of(whole.y);
    std::vector<double> actual = values_of(chunked.y);
    for (std::int64_t expert = 0; expert < s.experts; ++expert) {
      for (std::int64_t c = 0; c < s.model_dim; ++c) {
        const std::int64_t last = (expert * s.rows + 10) * s.model_dim + c;
        EXPECT_TRUE(std::isnan(actual[last]));
        actual[last] = expected[last] = 0.0;
      }
    }
    EXPECT_TRUE(close(actual, expected, ffn_tolerance(dtype(), s.model_dim, s.hidden_dim)))
        << describe(variant, s);
  }
}

// 3 slices of 4 hidden columns; the bias of 7 columns in slices of ceil(7 / 3) = 3, the last with two columns
// of padding that hold NaN. The partial sums add up to the whole.
TEST_P(ExpertFfn, SlicesOfHiddenColumnsAndBiasAddUp) {
  const FfnSizes s = {2, 5, 7, 12};
  FfnCase ffn = make_case({.activation = Activation::kGelu}, s);
  forward(ffn.forward());
  const std::vector<double> expected = values_of(ffn.y);
  std::vector<double> bias(18, poison(dtype()));
  const std::vector<double> columns = values_of(ffn.fc2_bias);
  for (std::int64_t i = 0; i < 14; ++i) bias[i / 7 * 9 + i % 7] = columns[i];
  const Tensor padded_bias = real({2, 9}, bias);

  std::vector<double> sum(expected.size(), 0.0);
  for (std::int64_t slice = 0; slice < 3; ++slice) {
    ExpertFfnArgs args = ffn.forward();
    args.weights.fc1_w = args.weights.fc1_w.narrowed(slice * 4, 4);
    args.weights.fc2_w = args.weights.fc2_w.narrowed(slice * 4, 4);
    args.weights.fc1_bias = args.weights.fc1_bias.narrowed(slice * 4, 4);
    args.weights.fc2_bias = ConstTensorView(padded_bias).narrowed(slice * 3, 3);
    args.fc2_bias_begin = slice * 3;
    args.hidden = args.hidden.narrowed(0, 5);
    args.hidden.shape = {2, 5, 4};
    args.activated.shape = {2, 5, 4};
    forward(args);
    const std::vector<double> part = values_of(ffn.y);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
  }
  // Three partial sums are stored, each rounded once more.
  EXPECT_TRUE(close(sum, expected, 2.0 * ffn_tolerance(dtype(), s.model_dim, s.hidden_dim)));
}

TEST_P(ExpertFfn, BiasSliceBeyondTheModelDimIsAllPadding) {
  FfnCase ffn = make_case({.activation = Activation::kRelu}, {1, 2, 3, 4});
  ExpertFfnArgs args = ffn.forward();
  args.weights.fc2_bias = {};
  forward(args);
  const std::vector<double> expected = values_of(ffn.y);
  args.weights.fc2_bias = ffn.fc2_bias;
  args.fc2_bias_begin = 3;
  forward(args);
  EXPECT_EQ(values_of(ffn.y), expected);
}

TEST_P(ExpertFfn, ActivationMayOverwriteHidden) {
  for (const FfnVariant& variant : kFfnVariants) {
    FfnCase apart = make_case(variant, {2, 5, 7, 12});
    FfnCase shared = make_case(variant, {2, 5, 7, 12});
    forward(apart.forward());
    ExpertFfnArgs args = shared.forward();
    args.activated = shared.hidden;
    forward(args);
    EXPECT_EQ(values_of(shared.y), values_of(apart.y));
    const bool kept = keeps_activated(variant.kind, variant.activation);
    EXPECT_EQ(values_of(shared.hidden), values_of(kept ? apart.hidden : apart.activated));
  }
}

TEST_P(ExpertFfn, ReluNeedsNoSecondTensor) {
  FfnCase given = make_case({.activation = Activation::kRelu}, {2, 5, 7, 12});
  FfnCase left_out = make_case({.activation = Activation::kRelu}, {2, 5, 7, 12});
  forward(given.forward());
  ExpertFfnArgs args = left_out.forward();
  args.activated = {};
  forward(args);
  EXPECT_EQ(values_of(left_out.y), values_of(given.y));
  for (const double value : values_of(given.activated)) EXPECT_TRUE(std::isnan(value)) << "it has no use";
}

TEST(ExpertFfnNames, ParseWhatTheyPrint) {
  for (const Activation activation : {Activation::kGelu, Activation::kRelu, Activation::kSilu}) {
    EXPECT_EQ(parse_activation(name(activation)), activation);
  }
  for (const FfnKind kind : {FfnKind::kStandard, FfnKind::kGated})
    EXPECT_EQ(parse_ffn_kind(name(kind)), kind);
  EXPECT_EQ(parse_activation("tanh"), std::nullopt);
  EXPECT_EQ(parse_ffn_kind(""), std::nullopt);
}

TEST_P(ExpertFfn, SaysWhatIsWrong) {
  FfnCase ffn = make_case({}, {2, 5, 7, 12});
  const auto text = [&](auto change) {
    ExpertFfnArgs args = ffn.forward();
    change(args);
    return error_text([&] { expert_ffn(args, stream()); });
  };
  EXPECT_EQ(text([](ExpertFfnArgs& a) {
              a.weights.fc2_w.shape = {2, 7, 12};
            }),
            "expert_ffn: fc2_w is (2, 7, 12), expected (2, 12, 7)");
  EXPECT_EQ(text([](ExpertFfnArgs& a) { a.weights.fc1_w = {}; }),
            "expert_ffn: fc1_w is missing, expected (2, 0, 7)");
  EXPECT_EQ(text([](ExpertFfnArgs& a) { a.weights.up_w = a.weights.fc1_w; }),
            "expert_ffn: up_w is given, but has no use in standard experts");
  EXPECT_EQ(text([](ExpertFfnArgs& a) { a.up = a.hidden; }),
            "expert_ffn: up is given, but has no use in standard experts");
  EXPECT_EQ(text([](ExpertFfnArgs& a) {
              a.weights.fc1_bias.shape = {2, 11};
            }),
            "expert_ffn: fc1_bias is (2, 11), expected (2, 12)");
  EXPECT_EQ(text([](ExpertFfnArgs& a) { a.fc2_bias_begin = -1; }),
            "expert_ffn: fc2_bias_begin is -1, expected 0 or more");
  EXPECT_EQ(text([](ExpertFfnArgs& a) { a.activated = {}; }),
            "expert_ffn: activated is missing, expected (2, 5, 12)");
  EXPECT_EQ(text([](ExpertFfnArgs& a) { a.kind = FfnKind::kGated; }),
            "expert_ffn: up_w is missing, expected (2, 12, 7)");
  FfnCase gated = make_case({.kind = FfnKind::kGated, .biases = false}, {2, 5, 7, 12});
  ExpertFfnArgs args = gated.forward();
  args.weights.fc1_bias = ffn.fc1_bias;
  EXPECT_EQ(error_text([&] { expert_ffn(args, stream()); }),
            "expert_ffn: fc1_bias is given, but has no use in gated experts");
}

INSTANTIATE_TEST_SUITE_P(Backends, ExpertFfn, ::testing::ValuesIn(all_backends()), backend_name);

}  // namespace
}  // namespace flex::testing
