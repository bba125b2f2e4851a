#include "kernels/nn/window_attention.h"

#include "tests/kernels/nn/attention_case.h"

namespace flex::testing {
namespace {

class WindowAttention : public KernelTest {};
class WindowAttentionParity : public Parity {};

// One window of 1 x 2, one head of 1 column. Scores of the first query: 0 and ln 3 by the bias of offset -1
// (its key comes later), so that it takes 1/4 and 3/4; the second query, 0 and 0 with its own bias of
// offset 1.
TEST_P(WindowAttention, MatchesHandWorkedExample) {
  const WindowMap map(WindowLayout::fit({1, 2}, 2, false), device());
  const Tensor qkv = real({2, 3}, {0, 5, 1, 0, -5, 2});
  const Tensor bias = gate_real({1, 3}, {std::log(3.0), 0, 0});
  Tensor out = real_output({2, 1});
  Tensor logsumexp = gate_output({1, 1, 2});
  window_attention({.kind = AttentionKind::kScaledDot,
                    .map = &map,
                    .qkv = qkv,
                    .bias_table = bias,
                    .out = out,
                    .logsumexp = logsumexp},
                   stream());
  wait();
  EXPECT_TRUE(close(values_of(out), {1.75, 1.5}, 8.0 * unit_roundoff(dtype())));
  EXPECT_TRUE(close(values_of(logsumexp), {std::log(4.0), std::log(2.0)}, 8.0 * unit_roundoff(gate_type())));
}

// Cosines of (3, 4) with (6, 8) and with (-4, 3) are 1 and 0. At a scale of 50 the factor is
// clamped to 100, so that queries take the first value and nothing else.
TEST_P(WindowAttention, CosineMatchesHandWorkedExample) {
  const WindowMap map(WindowLayout::fit({1, 2}, 2, false), device());
  const Tensor qkv = real({2, 6}, {3, 4, 6, 8, 1, 10, 3, 4, -4, 3, 2, 20});
  const Tensor zeros = gate_real({1, 3}, {0, 0, 0});
  Tensor out = real_output({2, 2});
  Tensor logsumexp = gate_output({1, 1, 2});
  const auto run = [&](double scale) {
    const Tensor scales = gate_real({1}, {scale});
    window_attention(
        {.map = &map, .qkv = qkv, .scale = scales, .bias_table = zeros, .out = out, .logsumexp = logsumexp},
        stream());
    wait();
  };
  run(std::log(std::log(3.0)));  // factor ln 3: weights 3/4 and 1/4
  EXPECT_TRUE(close(values_of(out), {1.25, 12.5, 1.25, 12.5}, 16.0 * unit_roundoff(dtype())));
  run(50.0);
  EXPECT_TRUE(close(values_of(logsumexp), {100.0, 100.0}, 16.0 * unit_roundoff(gate_type())));
  EXPECT_TRUE(close(values_of(out), {1, 10, 1, 10}, 16.0 * unit_roundoff(dtype())));
}

// 3 x 1 in windows of 2, shifted by 1, padded to 4: the windows hold positions 1, 2 and padding, 0. The
// second window's one key gets all weight; in a map of 4 its two would be 100 apart.
TEST_P(WindowAttention, SeesNoPaddingAndLittleBeyondTheSeam) {
  const Tensor zeros = gate_real({1, 3}, {0, 0, 0});
  const WindowMap padded(WindowLayout::fit({3, 1}, 2, true), device());
  const Tensor qkv = real({3, 3}, {0, 0, 1, 0, 0, 2, 0, 0, 4});
  Tensor out = real_output({3, 1});
  window_attention(
      {.kind = AttentionKind::kScaledDot, .map = &padded, .qkv = qkv, .bias_table = zeros, .out = out},
      stream());
  wait();
  EXPECT_TRUE(close(values_of(out), {1, 3, 3}, 4.0 * unit_roundoff(dtype())));

  const WindowMap whole(WindowLayout::fit({4, 1}, 2, true), device());
  const Tensor four = real({4, 3}, {0, 0, 1, 0, 0, 2, 0, 0, 4, 0, 0, 8});
  Tensor out_of_four = real_output({4, 1});
  window_attention({.kind = AttentionKind::kScaledDot,
                    .map = &whole,
                    .qkv = four,
                    .bias_table = zeros,
                    .out = out_of_four},
                   stream());
  wait();
  EXPECT_TRUE(close(values_of(out_of_four), {1, 3, 3, 8}, 4.0 * unit_roundoff(dtype())));
}

TEST_P(WindowAttentionParity, ForwardMatchesTheTwin) {
  for (const AttentionSizes& s : kAttentionSizes) {
    expect_parity_of(to_string(s), [&](Side& side) {
      const WindowMap map(s.layout, side.device());
      const Tensor qkv = side.real({s.rows(), 3 * s.channels()}, exact(s.rows() * 3 * s.channels(), 1));
      const Tensor scale = side.gate({s.heads}, exact_gate(s.heads, 2, 0.0, 2.5));
      const Tensor bias = side.gate({s.heads, s.offsets()},
                                    exact_gate(s.heads * s.offsets(), 3, -kLargestBias, kLargestBias));
      Tensor out = side.real_output({s.rows(), s.channels()});
      Tensor logsumexp = side.gate_output(s.logsumexp());
      window_attention({.kind = s.kind,
                        .num_heads = s.heads,
                        .map = &map,
                        .qkv = qkv,
                        .scale = s.kind == AttentionKind::kCosine ? scale.view() : TensorView{},
                        .bias_table = bias,
                        .out = out,
                        .logsumexp = logsumexp},
                       side.stream());
      side.stream().synchronize_blocking();
      // Weights may be rounded to the backend's type before they multiply values, which are at most 1.
      const double tolerance = weight_tolerance(s) + product_tolerance(DType::kF32, s.layout.window_size()) +
                               4.0 * unit_roundoff(dtype());
      return Outputs{{"out", values_of(out), tolerance, 1.0},
                     {"logsumexp", values_of(logsumexp), weight_tolerance(s), 1.0}};
    });
  }
}

TEST_P(WindowAttention, SaysWhatIsWrong) {
  const WindowMap map(WindowLayout::fit({1, 2}, 2, false), device());
  const Tensor qkv = real({2, 3}, {0, 5, 1, 0, -5, 2});
  const Tensor bias = gate_real({1, 3}, {0, 0, 0});
  Tensor out = real_output({2, 1});
  const WindowAttentionArgs good = {
      .kind = AttentionKind::kScaledDot, .map = &map, .qkv = qkv, .bias_table = bias, .out = out};
  const auto text = [&](auto change) {
    WindowAttentionArgs args = good;
    change(args);
    return error_text([&] { window_attention(args, stream()); });
  };
  EXPECT_EQ(text([](WindowAttentionArgs& a) { a.map = nullptr; }), "window_attention: map is missing");
  EXPECT_EQ(text([](WindowAttentionArgs& a) { a.num_heads = 2; }),
            "window_attention: qkv has 3 columns, not three times 2 heads");
  EXPECT_EQ(text([](WindowAttentionArgs& a) { a.kind = AttentionKind::kCosine; }),
            "window_attention: scale is missing, expected (1)");
  EXPECT_EQ(text([&](WindowAttentionArgs& a) { a.scale = bias; }),
            "window_attention: scale is given, but has no use without the cosine");
  EXPECT_EQ(text([](WindowAttentionArgs& a) {
              a.bias_table.shape = {1, 1};
            }),
            "window_attention: bias_table is (1, 1), expected (1, 3)");
  EXPECT_EQ(text([&](WindowAttentionArgs& a) { a.logsumexp = out; }),
            "window_attention: logsumexp is (2, 1), expected (1, 1, 2)");
  const WindowMap other(WindowLayout::fit({3, 1}, 3, false), device());
  EXPECT_EQ(text([&](WindowAttentionArgs& a) { a.map = &other; }),
            "window_attention: qkv has 2 rows, not a multiple of the map's 3");
  const WindowMap large(WindowLayout::fit({17, 17}, 17, false), device());
  EXPECT_EQ(text([&](WindowAttentionArgs& a) { a.map = &large; }),
            "window_attention: a window of 17 x 17 has 289 positions, at most 256");
  const Tensor wide = real({2, 3 * 129}, std::vector<double>(6 * 129, 0.0));
  EXPECT_EQ(text([&](WindowAttentionArgs& a) { a.qkv = wide; }),
            "window_attention: heads of 129 columns, at most 128");
}

TEST(AttentionKind, IsWrittenAndRead) {
  EXPECT_EQ(name(AttentionKind::kCosine), "cosine");
  EXPECT_EQ(parse_attention("scaled_dot"), AttentionKind::kScaledDot);
  EXPECT_EQ(parse_attention("dot"), std::nullopt);
}

INSTANTIATE_TEST_SUITE_P(Backends, WindowAttention, ::testing::ValuesIn(all_backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, WindowAttentionParity, ::testing::ValuesIn(compared_backends()),
                         backend_name);

}  // namespace
}  // namespace flex::testing
