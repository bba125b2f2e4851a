#include "kernels/nn/layer_norm.h"

#include "tests/kernels/nn/parity.h"
#include "tests/support/finite_difference.h"

namespace flex::testing {
namespace {

class LayerNorm : public KernelTest {};
class LayerNormGradient : public KernelTest {};
class LayerNormParity : public Parity {};

// Row (1, 3): mean 2, variance 1, normalized (-1, 1) but for epsilon, which is 0 here; the second row is
// constant, variance 0 with epsilon 0.25.
TEST_P(LayerNorm, MatchesHandWorkedExample) {
  const Tensor x = real({1, 2}, {1, 3});
  const Tensor weight = gate_real({2}, {2, 3});
  const Tensor bias = gate_real({2}, {0.5, 1});
  Tensor y = real_output({1, 2});
  Tensor mean = gate_output({1});
  Tensor rstd = gate_output({1});
  LayerNormArgs args = {
      .x = x, .weight = weight, .bias = bias, .y = y, .mean = mean, .rstd = rstd, .epsilon = 0.0};
  layer_norm(args, stream());
  wait();
  EXPECT_EQ(values_of(y), (std::vector<double>{-1.5, 4}));
  EXPECT_EQ(values_of(mean), (std::vector<double>{2}));
  EXPECT_EQ(values_of(rstd), (std::vector<double>{1}));

  const Tensor residual = real({1, 2}, {10, 20});
  const Tensor factors = gate_real({1}, {2});
  args.residual = residual;
  args.factors = factors;
  layer_norm(args, stream());
  wait();
  EXPECT_EQ(values_of(y), (std::vector<double>{7, 28}));

  const Tensor constant = real({1, 2}, {5, 5});
  args = {.x = constant, .weight = weight, .bias = bias, .y = y, .mean = mean, .rstd = rstd, .epsilon = 0.25};
  layer_norm(args, stream());
  wait();
  EXPECT_EQ(values_of(y), (std::vector<double>{0.5, 1}));
  EXPECT_EQ(values_of(rstd), (std::vector<double>{2}));
}

// Two samples of two rows each; the second is dropped.
TEST_P(LayerNorm, FactorsAreOfSamples) {
  const Tensor x = real({4, 2}, {1, 3, 1, 3, 1, 3, 1, 3});
  const Tensor ones = gate_real({2}, {1, 1});
  const Tensor zeros = gate_real({2}, {0, 0});
  const Tensor factors = gate_real({2}, {2, 0});
  Tensor y = real({4, 2}, {1, 2, 3, 4, 5, 6, 7, 8});  // the residual's memory too
  layer_norm(
      {.x = x, .weight = ones, .bias = zeros, .residual = y, .factors = factors, .y = y, .epsilon = 0.0},
      stream());
  wait();
  EXPECT_EQ(values_of(y), (std::vector<double>{-1, 4, 1, 6, 5, 6, 7, 8}));
}

TEST_P(LayerNormGradient, MatchesFiniteDifferences) {
  Tensor x = random_real({6, 5}, 1);
  Tensor weight = random_real({5}, 2);
  Tensor bias = random_real({5}, 3);
  const Tensor residual = random_real({6, 5}, 4);
  const Tensor factors = real({3}, {0.5, 0, 2});
  const Tensor dy = random_real({6, 5}, 5);
  Tensor y = real_output({6, 5});
  Tensor mean = real_output({6});
  Tensor rstd = real_output({6});
  const auto loss = [&] {
    layer_norm({.x = x,
                .weight = weight,
                .bias = bias,
                .residual = residual,
                .factors = factors,
                .y = y,
                .mean = mean,
                .rstd = rstd},
               stream());
    wait();
    return inner_product(values_of(y), values_of(dy));
  };
  loss();
  Tensor dx = real_output({6, 5});
  Tensor dweight = real_output({5});
  Tensor dbias = real_output({5});
  layer_norm_backward({.dy = dy,
                       .x = x,
                       .weight = weight,
                       .mean = mean,
                       .rstd = rstd,
                       .factors = factors,
                       .dx = dx,
                       .dweight = dweight,
                       .dbias = dbias},
                      stream());
  wait();
  EXPECT_TRUE(close(values_of(dx), numeric_gradient(x, loss), kFiniteDifferenceTolerance));
  EXPECT_TRUE(close(values_of(dweight), numeric_gradient(weight, loss), kFiniteDifferenceTolerance));
  EXPECT_TRUE(close(values_of(dbias), numeric_gradient(bias, loss), kFiniteDifferenceTolerance));
}

// R rows of B samples, C channels.
struct Sizes {
  std::int64_t rows, channels, samples;
};
const std::vector<Sizes> kSizes = {{1, 1, 1},     {0, 7, 0},     {6, 3, 2},    {35, 33, 5},  {64, 96, 4},
                                   {300, 128, 3}, {18, 1024, 2}, {9, 2048, 3}, {10, 1025, 1}};

// A normalized value's error: the mean's, n u |mean| / std of sums in any order, the variance's, and some
// roundings. Values are uniform in [mean - 1, mean + 1), of standard deviation 0.58.
double norm_tolerance(DType dtype, std::int64_t channels, double mean) {
  const double wide = unit_roundoff(DType::kF32);
  return static_cast<double>(channels + 8) * wide * (1.0 + mean) / 0.58 + 4.0 * unit_roundoff(dtype);
}

TEST_P(LayerNormParity, ForwardMatchesTheTwin) {
  for (const double mean_value : {0.0, 16.0}) {
    for (const Sizes& s : kSizes) {
      if (s.channels == 1 && mean_value > 0.0) continue;
      expect_parity_of(to_string(Shape{s.rows, s.channels}), [&](Side& side) {
        const Shape shape = {s.rows, s.channels};
        const Tensor x = side.real(shape, exact(s.rows * s.channels, 1, mean_value - 1.0, mean_value + 1.0));
        const Tensor weight = side.gate({s.channels}, exact_gate(s.channels, 2));
        const Tensor bias = side.gate({s.channels}, exact_gate(s.channels, 3));
        const Tensor residual = side.real(shape, exact(s.rows * s.channels, 4));
        const Tensor factors = side.gate({s.samples}, exact_gate(s.samples, 5, 0.5, 2.0));
        Tensor y = side.real_output(shape);
        Tensor mean = side.gate_output({s.rows});
        Tensor rstd = side.gate_output({s.rows});
        layer_norm({.x = x, .weight = weight, .bias = bias, .y = y, .mean = mean, .rstd = rstd},
                   side.stream());
        Tensor post = side.real_output(shape);
        layer_norm(
            {.x = x, .weight = weight, .bias = bias, .residual = residual, .factors = factors, .y = post},
            side.stream());
        side.stream().synchronize_blocking();
        const double tolerance = norm_tolerance(dtype(), s.channels, mean_value);
        return Outputs{{"y", values_of(y), tolerance},
                       {"y with residual", values_of(post), 2.0 * tolerance},
                       {"mean", values_of(mean), product_tolerance(DType::kF32, s.channels), 1.0},
                       {"rstd", values_of(rstd), norm_tolerance(DType::kF32, s.channels, mean_value)}};
      });
    }
  }
}

TEST_P(LayerNormParity, BackwardMatchesTheTwin) {
  for (const Sizes& s : kSizes) {
    for (const bool accumulate : {false, true}) {
      expect_parity_of(to_string(Shape{s.rows, s.channels}), [&](Side& side) {
        const Shape shape = {s.rows, s.channels};
        const Tensor dy = side.real(shape, exact(s.rows * s.channels, 1));
        const Tensor x = side.real(shape, exact(s.rows * s.channels, 2));
        const Tensor weight = side.gate({s.channels}, exact_gate(s.channels, 3));
        const Tensor mean = side.gate({s.rows}, exact_gate(s.rows, 4, -0.1, 0.1));
        const Tensor rstd = side.gate({s.rows}, exact_gate(s.rows, 5, 1.0, 2.0));
        const Tensor factors = side.gate({s.samples}, exact_gate(s.samples, 6, 0.5, 2.0));
        Tensor dx = accumulate ? side.real(shape, exact(s.rows * s.channels, 7)) : side.real_output(shape);
        const auto sums = [&] {
          return accumulate ? side.gate({s.channels}, exact_gate(s.channels, 8))
                            : side.gate_output({s.channels});
        };
        Tensor dweight = sums();
        Tensor dbias = sums();
        Tensor workspace = side.bytes(layer_norm_backward_workspace_bytes(s.rows, s.channels, side.device()));
        layer_norm_backward({.dy = dy,
                             .x = x,
                             .weight = weight,
                             .mean = mean,
                             .rstd = rstd,
                             .factors = factors,
                             .dx = dx,
                             .accumulate_dx = accumulate,
                             .dweight = dweight,
                             .dbias = dbias,
                             .accumulate_weights = accumulate,
                             .workspace = workspace},
                            side.stream());
        side.stream().synchronize_blocking();
        // Two sums of at most C terms of order 1, divided by C; terms that cancel are of order 4.
        const double wide = product_tolerance(DType::kF32, s.channels);
        return Outputs{{"dx", values_of(dx), 4.0 * wide + 4.0 * unit_roundoff(dtype()), 4.0},
                       {"dweight", values_of(dweight), 4.0 * product_tolerance(DType::kF32, s.rows), 4.0},
                       {"dbias", values_of(dbias), 4.0 * product_tolerance(DType::kF32, s.rows), 4.0}};
      });
    }
  }
}

TEST_P(LayerNorm, SaysWhatIsWrong) {
  const Tensor x = real({4, 2}, std::vector<double>(8, 1.0));
  const Tensor weight = gate_real({2}, {1, 1});
  Tensor y = real_output({4, 2});
  const LayerNormArgs good = {.x = x, .weight = weight, .bias = weight, .y = y};
  const auto text = [&](auto change) {
    LayerNormArgs args = good;
    change(args);
    return error_text([&] { layer_norm(args, stream()); });
  };
  EXPECT_EQ(text([](LayerNormArgs& a) { a.weight = {}; }), "layer_norm: weight is missing, expected (2)");
  EXPECT_EQ(text([&](LayerNormArgs& a) { a.factors = weight; }),
            "layer_norm: factors is given, but has no use without residual");
  const Tensor three = gate_real({3}, {1, 1, 1});
  EXPECT_EQ(text([&](LayerNormArgs& a) {
              a.residual = x;
              a.factors = three;
            }),
            "layer_norm: 3 factors do not divide 4 rows");
  EXPECT_EQ(text([&](LayerNormArgs& a) { a.mean = y; }), "layer_norm: mean is (4, 2), expected (4)");
  EXPECT_EQ(text([&](LayerNormArgs& a) {
              a.x = a.x.reshaped({4, 0});
            }),
            "layer_norm: x is (4, 0), expected channels to normalize over");
  Tensor wide = gate_output({4});
  const LayerNormBackwardArgs backward = {
      .dy = x, .x = x, .weight = weight, .mean = wide, .rstd = wide, .dx = y, .dweight = wide, .dbias = wide};
  EXPECT_EQ(error_text([&] { layer_norm_backward(backward, stream()); }),
            "layer_norm_backward: dweight is (4), expected (2)");
}

INSTANTIATE_TEST_SUITE_P(Backends, LayerNorm, ::testing::ValuesIn(all_backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, LayerNormGradient, ::testing::ValuesIn(double_backend()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, LayerNormParity, ::testing::ValuesIn(compared_backends()), backend_name);

}  // namespace
}  // namespace flex::testing
