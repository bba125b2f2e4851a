#include "kernels/nn/linear.h"

#include "tests/kernels/nn/parity.h"
#include "tests/support/finite_difference.h"

namespace flex::testing {
namespace {

class Linear : public KernelTest {};
class LinearGradient : public KernelTest {};
class LinearParity : public Parity {};

const std::vector<std::optional<Activation>> kActivations = {std::nullopt, Activation::kGelu,
                                                             Activation::kRelu, Activation::kSilu};
std::string label(std::optional<Activation> activation) {
  return activation ? std::string(name(*activation)) : "no activation";
}
bool keeps_preactivation(std::optional<Activation> activation) {
  return activation && *activation != Activation::kRelu;
}

// x = (1, 2), (3, -1): rows of the weight (1, 1) and (0, -2) give 3, -4 and 2, 2, the bias adds (0.5, 1).
TEST_P(Linear, MatchesHandWorkedExample) {
  const Tensor x = real({2, 2}, {1, 2, 3, -1});
  const Tensor weight = real({2, 2}, {1, 1, 0, -2});
  const Tensor bias = real({2}, {0.5, 1});
  Tensor y = real_output({2, 2});
  LinearArgs args = {.x = x, .weight = weight, .bias = bias, .y = y, .gemm = test_gemm(device())};
  linear(args, stream());
  wait();
  EXPECT_EQ(values_of(y), (std::vector<double>{3.5, -3, 2.5, 3}));
  args.activation = Activation::kRelu;
  linear(args, stream());
  wait();
  EXPECT_EQ(values_of(y), (std::vector<double>{3.5, 0, 2.5, 3}));
  args.bias = {};
  args.activation = {};
  linear(args, stream());
  wait();
  EXPECT_EQ(values_of(y), (std::vector<double>{3, -4, 2, 2}));
}

// With y = relu and dy of ones, the second column of the first row passes nothing on.
TEST_P(Linear, BackwardMatchesHandWorkedExample) {
  const Tensor x = real({2, 2}, {1, 2, 3, -1});
  const Tensor weight = real({2, 2}, {1, 1, 0, -2});
  const Tensor y = real({2, 2}, {3.5, 0, 2.5, 3});
  const Tensor dy = real({2, 2}, {1, 1, 1, 1});
  Tensor dpre = real_output({2, 2});
  Tensor dx = real_output({2, 2});
  Tensor dweight = real_output({2, 2});
  Tensor dbias = real_output({2});
  LinearBackwardArgs args = {.dy = dy,
                             .x = x,
                             .weight = weight,
                             .activation = Activation::kRelu,
                             .kept = y,
                             .dpreactivation = dpre,
                             .dx = dx,
                             .dweight = dweight,
                             .dbias = dbias,
                             .gemm = test_gemm(device())};
  linear_backward(args, stream());
  wait();
  EXPECT_EQ(values_of(dpre), (std::vector<double>{1, 0, 1, 1}));
  EXPECT_EQ(values_of(dx), (std::vector<double>{1, 1, 1, -1}));
  EXPECT_EQ(values_of(dweight), (std::vector<double>{4, 1, 3, -1}));
  EXPECT_EQ(values_of(dbias), (std::vector<double>{2, 1}));
  args.accumulate_dx = true;
  args.accumulate_weights = true;
  linear_backward(args, stream());
  wait();
  EXPECT_EQ(values_of(dx), (std::vector<double>{2, 2, 2, -2}));
  EXPECT_EQ(values_of(dweight), (std::vector<double>{8, 2, 6, -2}));
  EXPECT_EQ(values_of(dbias), (std::vector<double>{4, 2}));
}

TEST_P(LinearGradient, MatchesFiniteDifferences) {
  for (const auto activation : kActivations) {
    Tensor x = random_real({5, 4}, 1);
    Tensor weight = random_real({3, 4}, 2);
    Tensor bias = random_real({3}, 3);
    const Tensor dy = random_real({5, 3}, 4);
    Tensor y = real_output({5, 3});
    Tensor preactivation = real_output({5, 3});
    const auto loss = [&] {
      linear({.x = x,
              .weight = weight,
              .bias = bias,
              .activation = activation,
              .preactivation = keeps_preactivation(activation) ? preactivation.view() : TensorView{},
              .y = y},
             stream());
      wait();
      return inner_product(values_of(y), values_of(dy));
    };
    loss();
    Tensor dpre = real_output({5, 3});
    Tensor dx = real_output({5, 4});
    Tensor dweight = real_output({3, 4});
    Tensor dbias = real_output({3});
    LinearBackwardArgs args = {.dy = dy,
                               .x = x,
                               .weight = weight,
                               .activation = activation,
                               .dx = dx,
                               .dweight = dweight,
                               .dbias = dbias};
    if (activation) {
      args.kept = keeps_preactivation(activation) ? preactivation : y;
      args.dpreactivation = dpre;
    }
    linear_backward(args, stream());
    wait();
    EXPECT_TRUE(close(values_of(dx), numeric_gradient(x, loss), kFiniteDifferenceTolerance))
        << label(activation);
    EXPECT_TRUE(close(values_of(dweight), numeric_gradient(weight, loss), kFiniteDifferenceTolerance));
    EXPECT_TRUE(close(values_of(dbias), numeric_gradient(bias, loss), kFiniteDifferenceTolerance));
  }
}

// R rows, K columns in, N out.
struct Sizes {
  std::int64_t rows, in, out;
};
const std::vector<Sizes> kSizes = {{1, 1, 1}, {0, 4, 3}, {3, 4, 5}, {13, 9, 21}, {37, 33, 65}, {64, 96, 288}};

TEST_P(LinearParity, ForwardMatchesTheTwin) {
  for (const auto activation : kActivations) {
    for (const Sizes& s : kSizes) {
      const auto x = exact(s.rows * s.in, 1);
      const auto weight = exact(s.out * s.in, 2);
      const auto bias = exact(s.out, 3);
      expect_parity_of(to_string(Shape{s.rows, s.in, s.out}) + label(activation), [&](Side& side) {
        const Tensor x_tensor = side.real({s.rows, s.in}, x);
        const Tensor weight_tensor = side.real({s.out, s.in}, weight);
        const Tensor bias_tensor = side.real({s.out}, bias);
        Tensor y = side.real_output({s.rows, s.out});
        Tensor preactivation = side.real_output({s.rows, s.out});
        const bool keeps = keeps_preactivation(activation);
        linear({.x = x_tensor,
                .weight = weight_tensor,
                .bias = bias_tensor,
                .activation = activation,
                .preactivation = keeps ? preactivation.view() : TensorView{},
                .y = y,
                .gemm = test_gemm(side.device())},
               side.stream());
        side.stream().synchronize_blocking();
        // The activation, whose slope is at most 1.13, of a value that was rounded.
        const double tolerance = 1.13 * product_tolerance(dtype(), s.in + 1) + 4.0 * unit_roundoff(dtype());
        Outputs outputs = {{"y", values_of(y), tolerance}};
        if (keeps) outputs.push_back({"preactivation", values_of(preactivation), tolerance});
        return outputs;
      });
    }
  }
}

TEST_P(LinearParity, BackwardMatchesTheTwin) {
  for (const auto activation : kActivations) {
    for (const Sizes& s : kSizes) {
      for (const bool accumulate : {false, true}) {
        expect_parity_of(to_string(Shape{s.rows, s.in, s.out}) + label(activation), [&](Side& side) {
          const Tensor x = side.real({s.rows, s.in}, exact(s.rows * s.in, 1));
          const Tensor weight = side.real({s.out, s.in}, exact(s.out * s.in, 2));
          const Tensor dy = side.real({s.rows, s.out}, exact(s.rows * s.out, 3));
          const Tensor kept = side.real({s.rows, s.out}, exact(s.rows * s.out, 4));
          Tensor dpre = side.real_output({s.rows, s.out});
          const auto output = [&](Shape shape) {
            return accumulate ? side.real(shape, exact(shape.num_elements(), 5)) : side.real_output(shape);
          };
          Tensor dx = output({s.rows, s.in});
          Tensor dweight = output({s.out, s.in});
          Tensor dbias = output({s.out});
          LinearBackwardArgs args = {.dy = dy,
                                     .x = x,
                                     .weight = weight,
                                     .activation = activation,
                                     .dx = dx,
                                     .accumulate_dx = accumulate,
                                     .dweight = dweight,
                                     .dbias = dbias,
                                     .accumulate_weights = accumulate,
                                     .gemm = test_gemm(side.device())};
          if (activation) {
            args.kept = kept;
            args.dpreactivation = dpre;
          }
          linear_backward(args, side.stream());
          side.stream().synchronize_blocking();
          // Terms that were rounded move a sum of n of them by at most 4 u sum |terms|, see ffn_tolerance.
          const auto tolerance = [&](std::int64_t n) {
            return 4.0 * unit_roundoff(dtype()) * std::sqrt(static_cast<double>(n + 1)) +
                   product_tolerance(dtype(), n + 1);
          };
          return Outputs{{"dx", values_of(dx), tolerance(s.out)},
                         {"dweight", values_of(dweight), tolerance(s.rows)},
                         {"dbias", values_of(dbias), tolerance(s.rows)}};
        });
      }
    }
  }
}

TEST_P(Linear, SaysWhatIsWrong) {
  const Tensor x = real({2, 3}, {1, 2, 3, 4, 5, 6});
  const Tensor weight = real({4, 3}, std::vector<double>(12, 1.0));
  Tensor y = real_output({2, 4});
  const LinearArgs good = {.x = x, .weight = weight, .y = y, .gemm = test_gemm(device())};
  const auto text = [&](auto change) {
    LinearArgs args = good;
    change(args);
    return error_text([&] { linear(args, stream()); });
  };
  EXPECT_EQ(text([](LinearArgs& a) {
              a.weight.shape = {4, 2};
            }),
            "linear: weight is (4, 2), expected (4, 3)");
  EXPECT_EQ(text([&](LinearArgs& a) { a.bias = x.view().reshaped({6}); }),
            "linear: bias is (6), expected (4)");
  EXPECT_EQ(text([&](LinearArgs& a) { a.preactivation = y; }),
            "linear: preactivation is given, but has no use without a gelu or silu");
  LinearBackwardArgs backward = {.dy = y, .weight = weight, .dx = y, .gemm = test_gemm(device())};
  EXPECT_EQ(error_text([&] { linear_backward(backward, stream()); }),
            "linear_backward: dx is (2, 4), expected (2, 3)");
  backward = {.dy = y, .dweight = y, .gemm = test_gemm(device())};
  EXPECT_EQ(error_text([&] { linear_backward(backward, stream()); }),
            "linear_backward: x is missing, expected (2, 0)");
  backward = {.dy = y, .kept = y, .gemm = test_gemm(device())};
  EXPECT_EQ(error_text([&] { linear_backward(backward, stream()); }),
            "linear_backward: kept is given, but has no use without an activation");
  if (device().is_cpu()) return;
  EXPECT_EQ(text([](LinearArgs& a) { a.gemm = nullptr; }),
            "linear: gemm is missing; on CUDA it chooses the matrix products' algorithms");
}

INSTANTIATE_TEST_SUITE_P(Backends, Linear, ::testing::ValuesIn(all_backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, LinearGradient, ::testing::ValuesIn(double_backend()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, LinearParity, ::testing::ValuesIn(compared_backends()), backend_name);

}  // namespace
}  // namespace flex::testing
