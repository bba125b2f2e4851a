#include "tests/kernels/nn/attention_case.h"
#include "tests/support/finite_difference.h"

namespace flex::testing {
namespace {

class WindowAttentionBackward : public KernelTest {};
class WindowAttentionGradient : public KernelTest {};
class WindowAttentionBackwardParity : public Parity {};

// One window of two positions, one head of one column, all products and biases 0: weights of 1/2, out = 3, 3.
// The first query's output gradient of 1 gives the values 1/2 each, and its scores' are 1/2 (2 - 3) and 1/2
// (4 - 3); queries and keys of 0 pass nothing on to keys and queries of 0.
TEST_P(WindowAttentionBackward, MatchesHandWorkedExample) {
  const WindowMap map(WindowLayout::fit({1, 2}, 2, false), device());
  const Tensor qkv = real({2, 3}, {0, 6, 2, 0, 0, 4});
  const Tensor zeros = gate_real({1, 3}, {0, 0, 0});
  const Tensor out = real({2, 1}, {3, 3});
  const Tensor dout = real({2, 1}, {1, 0});
  const Tensor logsumexp = gate_real({1, 1, 2}, {std::log(2.0), std::log(2.0)});
  Tensor dqkv = real_output({2, 3});
  Tensor dbias = gate_output({1, 3});
  Tensor workspace = bytes(window_attention_backward_workspace_bytes(map.layout(), 1, 1, device()));
  window_attention_backward({.kind = AttentionKind::kScaledDot,
                             .map = &map,
                             .qkv = qkv,
                             .bias_table = zeros,
                             .out = out,
                             .logsumexp = logsumexp,
                             .dout = dout,
                             .dqkv = dqkv,
                             .dbias_table = dbias,
                             .workspace = workspace},
                            stream());
  wait();
  const double tolerance = 16.0 * unit_roundoff(dtype());
  EXPECT_TRUE(close(values_of(dqkv), {-3, 0, 0.5, 0, 0, 0.5}, tolerance));
  EXPECT_TRUE(close(values_of(dbias), {0.5, -0.5, 0}, tolerance));
}

TEST_P(WindowAttentionGradient, MatchesFiniteDifferences) {
  const std::vector<AttentionSizes> sizes = {{kCosineKind, WindowLayout::fit({3, 4}, 2, true), 2, 2, 3},
                                             {kDotKind, WindowLayout::fit({3, 4}, 3, true), 2, 2, 4},
                                             {kCosineKind, WindowLayout::fit({4, 4}, 4, false), 1, 1, 2}};
  for (const AttentionSizes& s : sizes) {
    const bool cosine = s.kind == AttentionKind::kCosine;
    const WindowMap map(s.layout, device());
    Tensor qkv = random_real({s.rows(), 3 * s.channels()}, 1);
    // The second head's factor is clamped.
    Tensor scale = real({s.heads}, s.heads == 2 ? std::vector<double>{1.0, 5.0} : std::vector<double>{0.5});
    Tensor bias = random_real({s.heads, s.offsets()}, 2);
    const Tensor dout = random_real({s.rows(), s.channels()}, 3);
    Tensor out = real_output({s.rows(), s.channels()});
    Tensor logsumexp = real_output(s.logsumexp());
    const ConstTensorView scale_view = cosine ? scale.view() : TensorView{};
    const auto loss = [&] {
      window_attention({.kind = s.kind,
                        .num_heads = s.heads,
                        .map = &map,
                        .qkv = qkv,
                        .scale = scale_view,
                        .bias_table = bias,
                        .out = out,
                        .logsumexp = logsumexp},
                       stream());
      wait();
      return inner_product(values_of(out), values_of(dout));
    };
    loss();
    Tensor dqkv = real_output({s.rows(), 3 * s.channels()});
    Tensor dscale = real_output({s.heads});
    Tensor dbias = real_output({s.heads, s.offsets()});
    window_attention_backward({.kind = s.kind,
                               .num_heads = s.heads,
                               .map = &map,
                               .qkv = qkv,
                               .scale = scale_view,
                               .bias_table = bias,
                               .out = out,
                               .logsumexp = logsumexp,
                               .dout = dout,
                               .dqkv = dqkv,
                               .dscale = cosine ? dscale.view() : TensorView{},
                               .dbias_table = dbias},
                              stream());
    wait();
    // Cosines of short vectors at a factor of 100 have third derivatives of 1e5 and more: a smaller step.
    constexpr double kStep = 1e-7;
    constexpr double kTolerance = 2e-6;
    EXPECT_TRUE(close(values_of(dqkv), numeric_gradient(qkv, loss, kStep), kTolerance)) << to_string(s);
    EXPECT_TRUE(close(values_of(dbias), numeric_gradient(bias, loss), kFiniteDifferenceTolerance));
    if (cosine) {
      EXPECT_TRUE(close(values_of(dscale), numeric_gradient(scale, loss), kFiniteDifferenceTolerance));
    }
  }
}

// What the backward pass takes of the forward pass, from the twin.
struct Kept {
  std::vector<double> out, logsumexp;
};

TEST_P(WindowAttentionBackwardParity, MatchesTheTwin) {
  for (const AttentionSizes& s : kAttentionSizes) {
    const bool cosine = s.kind == AttentionKind::kCosine;
    const auto qkv_values = exact(s.rows() * 3 * s.channels(), 1);
    const auto scale_values = exact_gate(s.heads, 2, 0.0, 2.5);
    const auto bias_values = exact_gate(s.heads * s.offsets(), 3, -kLargestBias, kLargestBias);
    const auto dout_values = exact(s.rows() * s.channels(), 4);
    const Kept kept = [&]() -> Kept {
      Side twin = Side::twin();
      const WindowMap map(s.layout, twin.device());
      const Tensor qkv = twin.real({s.rows(), 3 * s.channels()}, qkv_values);
      const Tensor scale = twin.gate({s.heads}, scale_values);
      const Tensor bias = twin.gate({s.heads, s.offsets()}, bias_values);
      Tensor out = twin.real_output({s.rows(), s.channels()});
      Tensor logsumexp = twin.gate_output(s.logsumexp());
      window_attention({.kind = s.kind,
                        .num_heads = s.heads,
                        .map = &map,
                        .qkv = qkv,
                        .scale = cosine ? scale.view() : TensorView{},
                        .bias_table = bias,
                        .out = out,
                        .logsumexp = logsumexp},
                       twin.stream());
      twin.stream().synchronize_blocking();
      const auto rounded = [](const Tensor& tensor, DType to) {
        return values_of(make_tensor({tensor.num_elements()}, values_of(tensor), to));
      };
      return {rounded(out, dtype()), rounded(logsumexp, gate_dtype(dtype()))};
    }();
    expect_parity_of(to_string(s), [&](Side& side) {
      const WindowMap map(s.layout, side.device());
      const Tensor qkv = side.real({s.rows(), 3 * s.channels()}, qkv_values);
      const Tensor scale = side.gate({s.heads}, scale_values);
      const Tensor bias = side.gate({s.heads, s.offsets()}, bias_values);
      const Tensor out = side.real({s.rows(), s.channels()}, kept.out);
      const Tensor logsumexp = side.gate(s.logsumexp(), kept.logsumexp);
      const Tensor dout = side.real({s.rows(), s.channels()}, dout_values);
      Tensor dqkv = side.real_output({s.rows(), 3 * s.channels()});
      Tensor dscale = side.gate_output({s.heads});
      Tensor dbias = side.gate_output({s.heads, s.offsets()});
      Tensor workspace =
          side.bytes(window_attention_backward_workspace_bytes(s.layout, s.images, s.heads, side.device()));
      window_attention_backward({.kind = s.kind,
                                 .num_heads = s.heads,
                                 .map = &map,
                                 .qkv = qkv,
                                 .scale = cosine ? scale.view() : TensorView{},
                                 .bias_table = bias,
                                 .out = out,
                                 .logsumexp = logsumexp,
                                 .dout = dout,
                                 .dqkv = dqkv,
                                 .dscale = cosine ? dscale.view() : TensorView{},
                                 .dbias_table = dbias,
                                 .workspace = workspace},
                                side.stream());
      side.stream().synchronize_blocking();
      // A gradient of a score is a weight times a difference of two sums over the head; it may be rounded to
      // the backend's type before it multiplies keys and queries. An error d of each of n terms moves their
      // sum by about d sqrt(n) of the largest.
      const double of_score = weight_tolerance(s) + 4.0 * product_tolerance(DType::kF32, s.head_dim);
      const auto tolerance = [&](std::int64_t n, double of_term) {
        return of_term * std::sqrt(static_cast<double>(n + 1)) + 4.0 * product_tolerance(DType::kF32, n);
      };
      const std::int64_t window = s.layout.window_size();
      const std::int64_t pairs = s.rows() * window;
      Outputs outputs = {
          {"dqkv", values_of(dqkv), tolerance(window, of_score + 4.0 * unit_roundoff(dtype()))},
          {"dbias", values_of(dbias), tolerance(s.rows(), of_score)}};
      if (cosine)
        outputs.push_back(
            {"dscale", values_of(dscale), tolerance(pairs, of_score + 2.0 * unit_roundoff(dtype())), 1.0});
      return outputs;
    });
  }
}

TEST_P(WindowAttentionBackward, SaysWhatIsWrong) {
  const WindowMap map(WindowLayout::fit({1, 2}, 2, false), device());
  const Tensor qkv = real({2, 3}, {0, 5, 1, 0, -5, 2});
  const Tensor bias = gate_real({1, 3}, {0, 0, 0});
  Tensor rows = real_output({2, 1});
  Tensor logsumexp = gate_output({1, 1, 2});
  Tensor dqkv = real_output({2, 3});
  Tensor dbias = gate_output({1, 3});
  const WindowAttentionBackwardArgs good = {.kind = AttentionKind::kScaledDot,
                                            .map = &map,
                                            .qkv = qkv,
                                            .bias_table = bias,
                                            .out = rows,
                                            .logsumexp = logsumexp,
                                            .dout = rows,
                                            .dqkv = dqkv,
                                            .dbias_table = dbias};
  const auto text = [&](auto change) {
    WindowAttentionBackwardArgs args = good;
    change(args);
    return error_text([&] { window_attention_backward(args, stream()); });
  };
  EXPECT_EQ(text([](WindowAttentionBackwardArgs& a) { a.logsumexp = {}; }),
            "window_attention_backward: logsumexp is missing, expected (1, 1, 2)");
  EXPECT_EQ(text([&](WindowAttentionBackwardArgs& a) { a.dqkv = rows; }),
            "window_attention_backward: dqkv is (2, 1), expected (2, 3)");
  EXPECT_EQ(text([&](WindowAttentionBackwardArgs& a) { a.dscale = dbias; }),
            "window_attention_backward: dscale is given, but has no use without the cosine");
  EXPECT_EQ(text([&](WindowAttentionBackwardArgs& a) { a.dbias_table = logsumexp; }),
            "window_attention_backward: dbias_table is (1, 1, 2), expected (1, 3)");
  if (device().is_cpu()) return;
  Tensor small = bytes(4);
  EXPECT_EQ(text([&](WindowAttentionBackwardArgs& a) { a.workspace = small; }),
            "window_attention_backward: workspace has 4 bytes, expected at least 20");
}

INSTANTIATE_TEST_SUITE_P(Backends, WindowAttentionBackward, ::testing::ValuesIn(all_backends()),
                         backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, WindowAttentionGradient, ::testing::ValuesIn(double_backend()),
                         backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, WindowAttentionBackwardParity, ::testing::ValuesIn(compared_backends()),
                         backend_name);

}  // namespace
}  // namespace flex::testing
