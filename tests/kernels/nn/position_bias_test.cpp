#include "kernels/nn/position_bias.h"

#include "tests/kernels/nn/parity.h"
#include "tests/support/finite_difference.h"

namespace flex::testing {
namespace {

class PositionBias : public KernelTest {};
class PositionBiasGradient : public KernelTest {};
class PositionBiasParity : public Parity {};

// Backends of the gate's types, for a fixture over Backend.
std::vector<Backend> compared_gate_backends() {
  std::vector<Backend> backends = gate_backends();
  std::erase_if(backends, [](const Backend& backend) { return backend.dtype == DType::kF64; });
  return backends;
}

// A window of 1 x 2: offsets -1, 0, 1 in a row, log2(9) / 3 = 1.0566 at the ends. The hidden columns pass the
// column's coordinate, its negative (plus 1), and the row's, which is 0.
TEST_P(PositionBias, MatchesHandWorkedExample) {
  const Tensor fc1_weight = gate_real({3, 2}, {0, 1, 0, -1, 1, 0});
  const Tensor fc1_bias = gate_real({3}, {0, 1, 0});
  const Tensor fc2_weight = gate_real({1, 3}, {1, 2, 5});
  Tensor table = gate_output({1, 3});
  PositionBiasArgs args = {.window = {1, 2},
                           .fc1_weight = fc1_weight,
                           .fc1_bias = fc1_bias,
                           .fc2_weight = fc2_weight,
                           .bounded = false,
                           .table = table};
  const double end = std::log2(9.0) / 3.0;
  position_bias(args, stream());
  wait();
  const double tolerance = 8.0 * unit_roundoff(gate_type());
  EXPECT_TRUE(close(values_of(table), {2.0 * (1.0 + end), 2.0, end}, tolerance));
  args.bounded = true;
  position_bias(args, stream());
  wait();
  const auto bounded = [](double net) { return 16.0 / (1.0 + std::exp(-net)); };
  EXPECT_TRUE(close(values_of(table), {bounded(2.0 * (1.0 + end)), bounded(2.0), bounded(end)}, tolerance));
  // A pretrained window of 3: offsets are halved, log2(1 + 4) / 3.
  args.bounded = false;
  args.pretrained_window = {3, 3};
  position_bias(args, stream());
  wait();
  const double half = std::log2(5.0) / 3.0;
  EXPECT_TRUE(close(values_of(table), {2.0 * (1.0 + half), 2.0, 2.0 - half}, tolerance));
}

TEST_P(PositionBiasGradient, MatchesFiniteDifferences) {
  for (const bool bounded : {false, true}) {
    Tensor fc1_weight = random_real({7, 2}, 1);
    Tensor fc1_bias = random_real({7}, 2);
    Tensor fc2_weight = random_real({3, 7}, 3);
    Tensor table = real_output({3, 15});
    const Tensor dtable = random_real({3, 15}, 4);
    const auto loss = [&] {
      position_bias({.window = {2, 3},
                     .fc1_weight = fc1_weight,
                     .fc1_bias = fc1_bias,
                     .fc2_weight = fc2_weight,
                     .bounded = bounded,
                     .table = table},
                    stream());
      wait();
      return inner_product(values_of(table), values_of(dtable));
    };
    loss();
    Tensor dfc1_weight = real_output({7, 2});
    Tensor dfc1_bias = real_output({7});
    Tensor dfc2_weight = real_output({3, 7});
    position_bias_backward({.window = {2, 3},
                            .fc1_weight = fc1_weight,
                            .fc1_bias = fc1_bias,
                            .fc2_weight = fc2_weight,
                            .bounded = bounded,
                            .table = table,
                            .dtable = dtable,
                            .dfc1_weight = dfc1_weight,
                            .dfc1_bias = dfc1_bias,
                            .dfc2_weight = dfc2_weight},
                           stream());
    wait();
    EXPECT_TRUE(
        close(values_of(dfc1_weight), numeric_gradient(fc1_weight, loss), kFiniteDifferenceTolerance));
    EXPECT_TRUE(close(values_of(dfc1_bias), numeric_gradient(fc1_bias, loss), kFiniteDifferenceTolerance));
    EXPECT_TRUE(
        close(values_of(dfc2_weight), numeric_gradient(fc2_weight, loss), kFiniteDifferenceTolerance));
  }
}

struct Sizes {
  Extent window;
  std::int64_t heads, hidden;
};
const std::vector<Sizes> kSizes = {
    {{1, 1}, 1, 1}, {{2, 3}, 3, 33}, {{7, 7}, 5, 40}, {{12, 12}, 4, 64}, {{4, 4}, 32, 512}};

TEST_P(PositionBiasParity, MatchesTheTwin) {
  for (const Sizes& s : kSizes) {
    for (const bool accumulate : {false, true}) {
      const std::int64_t offsets = num_offsets(s.window);
      expect_parity_of(to_string(Shape{s.heads, s.hidden, offsets}), [&](Side& side) {
        const Tensor fc1_weight = side.gate({s.hidden, 2}, exact_gate(s.hidden * 2, 1));
        const Tensor fc1_bias = side.gate({s.hidden}, exact_gate(s.hidden, 2));
        const double scale = 1.0 / std::sqrt(static_cast<double>(s.hidden));
        const Tensor fc2_weight =
            side.gate({s.heads, s.hidden}, exact_gate(s.heads * s.hidden, 3, -scale, scale));
        const Tensor kept = side.gate({s.heads, offsets}, exact_gate(s.heads * offsets, 4, 0.0, 16.0));
        const Tensor dtable = side.gate({s.heads, offsets}, exact_gate(s.heads * offsets, 5));
        Tensor table = side.gate_output({s.heads, offsets});
        position_bias({.window = s.window,
                       .fc1_weight = fc1_weight,
                       .fc1_bias = fc1_bias,
                       .fc2_weight = fc2_weight,
                       .bounded = accumulate,
                       .table = table},
                      side.stream());
        const auto output = [&](Shape shape) {
          return accumulate ? side.gate(shape, exact_gate(shape.num_elements(), 6)) : side.gate_output(shape);
        };
        Tensor dfc1_weight = output({s.hidden, 2});
        Tensor dfc1_bias = output({s.hidden});
        Tensor dfc2_weight = output({s.heads, s.hidden});
        position_bias_backward({.window = s.window,
                                .fc1_weight = fc1_weight,
                                .fc1_bias = fc1_bias,
                                .fc2_weight = fc2_weight,
                                .bounded = accumulate,
                                .table = kept,
                                .dtable = dtable,
                                .dfc1_weight = dfc1_weight,
                                .dfc1_bias = dfc1_bias,
                                .dfc2_weight = dfc2_weight,
                                .accumulate_weights = accumulate},
                               side.stream());
        side.stream().synchronize_blocking();
        // Inner values carry some roundings each; a sigmoid's net is off by that of its sum, at a slope of at
        // most 4 for 16.
        const auto tolerance = [](std::int64_t n) { return 8.0 * product_tolerance(DType::kF32, n + 4); };
        return Outputs{{"table", values_of(table), tolerance(s.hidden), 1.0},
                       {"dfc1_weight", values_of(dfc1_weight), tolerance(offsets * s.heads)},
                       {"dfc1_bias", values_of(dfc1_bias), tolerance(offsets * s.heads)},
                       {"dfc2_weight", values_of(dfc2_weight), tolerance(offsets)}};
      });
    }
  }
}

TEST_P(PositionBias, SaysWhatIsWrong) {
  const Tensor fc1_weight = gate_real({3, 2}, {0, 1, 0, -1, 1, 0});
  const Tensor fc1_bias = gate_real({3}, {0, 1, 0});
  const Tensor fc2_weight = gate_real({1, 3}, {1, 2, 5});
  Tensor table = gate_output({1, 3});
  const PositionBiasArgs good = {.window = {1, 2},
                                 .fc1_weight = fc1_weight,
                                 .fc1_bias = fc1_bias,
                                 .fc2_weight = fc2_weight,
                                 .table = table};
  const auto text = [&](auto change) {
    PositionBiasArgs args = good;
    change(args);
    return error_text([&] { position_bias(args, stream()); });
  };
  EXPECT_EQ(text([](PositionBiasArgs& a) {
              a.window = {2, 2};
            }),
            "position_bias: table is (1, 3), expected (1, 9)");
  EXPECT_EQ(text([](PositionBiasArgs& a) {
              a.window = {0, 2};
            }),
            "position_bias: a window of 0 x 2; extents are 1 or more");
  EXPECT_EQ(text([](PositionBiasArgs& a) {
              a.pretrained_window = {-1, 2};
            }),
            "position_bias: a pretrained window of -1 x 2; extents are 0 or more");
  EXPECT_EQ(text([&](PositionBiasArgs& a) { a.fc1_bias = fc2_weight; }),
            "position_bias: fc1_bias is (1, 3), expected (3)");
}

INSTANTIATE_TEST_SUITE_P(Backends, PositionBias, ::testing::ValuesIn(gate_backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, PositionBiasGradient, ::testing::ValuesIn(double_backend()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, PositionBiasParity, ::testing::ValuesIn(compared_gate_backends()),
                         backend_name);

}  // namespace
}  // namespace flex::testing
