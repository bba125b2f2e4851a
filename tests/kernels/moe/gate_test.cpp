#include "kernels/moe/gate.h"

#include <cmath>

#include "tests/support/kernel_test.h"

namespace flex::testing {
namespace {

class LinearGate : public KernelTest {};
class LinearGateBackward : public KernelTest {};

struct Sizes {
  std::int64_t tokens, model_dim, experts;
};
const std::vector<Sizes> kSizes = {{0, 4, 3}, {3, 0, 2},    {1, 1, 1},     {1, 33, 5},
                                   {7, 5, 1}, {37, 65, 11}, {129, 192, 64}};

TEST_P(LinearGate, MatchesHandWorkedExample) {
  const Tensor x = real({2, 3}, {1, 2, 3, -1, 0, 2});
  const Tensor weight = gate_real({2, 3}, {1, 0, 1, 0.5, -1, 0});
  Tensor logits = gate_output({2, 2});
  linear_gate({.x = x, .weight = weight, .logits = logits}, stream());
  wait();
  EXPECT_EQ(values_of(logits), (std::vector<double>{4, -1.5, 1, -0.5}));
}

TEST_P(LinearGateBackward, MatchesHandWorkedExample) {
  const Tensor x = real({2, 3}, {1, 2, 3, -1, 0, 2});
  const Tensor weight = gate_real({2, 3}, {1, 0, 1, 0.5, -1, 0});
  const Tensor dlogits = gate_real({2, 2}, {1, 2, 0, -1});
  Tensor dweight = gate_output({2, 3});
  Tensor dx = real_output({2, 3});
  Tensor workspace = bytes(linear_gate_backward_workspace_bytes(2, 3, 2, device()));
  LinearGateBackwardArgs args = {
      .x = x, .weight = weight, .dlogits = dlogits, .dweight = dweight, .dx = dx, .workspace = workspace};
  linear_gate_backward(args, stream());
  wait();
  EXPECT_EQ(values_of(dweight), (std::vector<double>{1, 2, 3, 3, 4, 4}));
  EXPECT_EQ(values_of(dx), (std::vector<double>{2, -2, 1, -0.5, 1, 0}));
  args.accumulate_dx = true;
  linear_gate_backward(args, stream());
  wait();
  EXPECT_EQ(values_of(dx), (std::vector<double>{4, -4, 2, -1, 2, 0}));
}

TEST_P(LinearGate, MatchesTheDefinitionForAllShapes) {
  for (const Sizes& s : kSizes) {
    const Tensor x = random_real({s.tokens, s.model_dim}, 1);
    const Tensor weight = random_gate_real({s.experts, s.model_dim}, 2);
    Tensor logits = gate_output({s.tokens, s.experts});
    linear_gate({.x = x, .weight = weight, .logits = logits}, stream());
    wait();
    const std::vector<double> a = values_of(x);
    const std::vector<double> w = values_of(weight);
    std::vector<double> expected(s.tokens * s.experts, 0.0);
    for (std::int64_t i = 0; i < s.tokens * s.experts; ++i) {
      for (std::int64_t c = 0; c < s.model_dim; ++c) {
        expected[i] += a[i / s.experts * s.model_dim + c] * w[i % s.experts * s.model_dim + c];
      }
    }
    EXPECT_TRUE(close(values_of(logits), expected, product_tolerance(gate_type(), s.model_dim)));
  }
}

TEST_P(LinearGateBackward, MatchesTheDefinitionForAllShapes) {
  for (const Sizes& s : kSizes) {
    const Tensor x = random_real({s.tokens, s.model_dim}, 1);
    const Tensor weight = random_gate_real({s.experts, s.model_dim}, 2);
    const Tensor dlogits = random_gate_real({s.tokens, s.experts}, 3);
    Tensor dweight = gate_output({s.experts, s.model_dim});
    Tensor dx = real_output({s.tokens, s.model_dim});
    Tensor workspace =
        bytes(linear_gate_backward_workspace_bytes(s.tokens, s.model_dim, s.experts, device()));
    linear_gate_backward(
        {.x = x, .weight = weight, .dlogits = dlogits, .dweight = dweight, .dx = dx, .workspace = workspace},
        stream());
    wait();
    const std::vector<double> a = values_of(x);
    const std::vector<double> w = values_of(weight);
    const std::vector<double> g = values_of(dlogits);
    std::vector<double> expected_dweight(s.experts * s.model_dim, 0.0);
    std::vector<double> expected_dx(s.tokens * s.model_dim, 0.0);
    for (std::int64_t i = 0; i < s.tokens * s.experts; ++i) {
      for (std::int64_t c = 0; c < s.model_dim; ++c) {
        expected_dweight[i % s.experts * s.model_dim + c] += g[i] * a[i / s.experts * s.model_dim + c];
        expected_dx[i / s.experts * s.model_dim + c] += g[i] * w[i % s.experts * s.model_dim + c];
      }
    }
    EXPECT_TRUE(close(values_of(dweight), expected_dweight, product_tolerance(gate_type(), s.tokens)));
    EXPECT_TRUE(close(values_of(dx), expected_dx, product_tolerance(dtype(), s.experts)));
  }
}

// Never TF32: 1 + 2^-12 needs more than TF32's ten bits of fraction.
TEST_P(LinearGate, ComputesInTheFullGateType) {
  const Tensor x = real({1, 1}, {1});
  const Tensor weight = gate_real({1, 1}, {1 + 0x1p-12});
  Tensor logits = gate_output({1, 1});
  linear_gate({.x = x, .weight = weight, .logits = logits}, stream());
  wait();
  EXPECT_EQ(values_of(logits)[0], 1 + 0x1p-12);
}

TEST_P(LinearGate, SaysWhatIsWrong) {
  const Tensor x = real_output({2, 3});
  const Tensor weight = gate_output({4, 3});
  Tensor logits = gate_output({2, 4});
  LinearGateArgs args = {.x = x, .weight = weight, .logits = logits};
  args.logits.shape = {4, 2};
  EXPECT_EQ(error_text([&] { linear_gate(args, stream()); }),
            "linear_gate: logits is (4, 2), expected (2, 4)");
  args.weight.shape = {4, 2};
  EXPECT_EQ(error_text([&] { linear_gate(args, stream()); }),
            "linear_gate: weight is (4, 2), expected (4, 3)");
  args.weight = {};
  EXPECT_EQ(error_text([&] { linear_gate(args, stream()); }),
            "linear_gate: weight is missing, expected (0, 3)");
  args.x.shape = {2, 3, 1};
  EXPECT_EQ(error_text([&] { linear_gate(args, stream()); }), "linear_gate: x is (2, 3, 1), expected (2, 3)");
}

TEST_P(LinearGateBackward, SaysWhatIsWrong) {
  const Tensor x = real_output({2, 3});
  const Tensor weight = gate_output({4, 3});
  const Tensor dlogits = gate_output({2, 4});
  Tensor dweight = gate_output({4, 3});
  Tensor dx = real_output({2, 3});
  LinearGateBackwardArgs args = {.x = x, .weight = weight, .dlogits = dlogits, .dweight = dweight, .dx = dx};
  args.dx.dtype = DType::kI32;
  EXPECT_EQ(error_text([&] { linear_gate_backward(args, stream()); }),
            "linear_gate_backward: dx is i32, expected " + std::string(name(dtype())));
  args.dweight = {};
  EXPECT_EQ(error_text([&] { linear_gate_backward(args, stream()); }),
            "linear_gate_backward: dweight is missing, expected (4, 3)");
}

INSTANTIATE_TEST_SUITE_P(Backends, LinearGate, ::testing::ValuesIn(all_backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, LinearGateBackward, ::testing::ValuesIn(all_backends()), backend_name);

}  // namespace
}  // namespace flex::testing
