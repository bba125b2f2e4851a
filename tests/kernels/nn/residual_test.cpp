#include "kernels/nn/residual.h"

#include "kernels/nn/cast.h"
#include "tests/kernels/nn/parity.h"

namespace flex::testing {
namespace {

class Residual : public KernelTest {};
class ResidualParity : public Parity {};
class Cast : public KernelTest {};

TEST_P(Residual, MatchesHandWorkedExample) {
  const Tensor residual = real({4, 1}, {10, 20, 30, 40});
  const Tensor x = real({4, 1}, {1, 2, 3, 4});
  const Tensor factors = gate_real({2}, {2, 0});
  Tensor y = real_output({4, 1});
  add_residual({.residual = residual, .x = x, .factors = factors, .y = y}, stream());
  wait();
  EXPECT_EQ(values_of(y), (std::vector<double>{12, 24, 30, 40}));
  add_residual({.residual = y, .x = x, .y = y}, stream());  // in place
  wait();
  EXPECT_EQ(values_of(y), (std::vector<double>{13, 26, 33, 44}));
  scale_rows({.x = y, .factors = factors, .y = y}, stream());
  wait();
  EXPECT_EQ(values_of(y), (std::vector<double>{26, 52, 0, 0}));
}

TEST_P(ResidualParity, MatchesTheTwin) {
  for (const Shape& shape : {Shape{0, 5}, Shape{1, 1}, Shape{6, 7}, Shape{30, 96}, Shape{66, 130}}) {
    const std::int64_t samples = shape[0] == 0 ? 0 : (shape[0] % 6 == 0 ? 6 : 1);
    expect_parity_of(to_string(shape), [&](Side& side) {
      const Tensor residual = side.real(shape, exact(shape.num_elements(), 1));
      const Tensor x = side.real(shape, exact(shape.num_elements(), 2));
      const Tensor factors = side.gate({samples}, exact_gate(samples, 3));
      Tensor sum = side.real_output(shape);
      Tensor added = side.real_output(shape);
      Tensor scaled = side.real_output(shape);
      add_residual({.residual = residual, .x = x, .y = sum}, side.stream());
      add_residual({.residual = residual, .x = x, .factors = factors, .y = added}, side.stream());
      scale_rows({.x = x, .factors = factors, .y = scaled}, side.stream());
      side.stream().synchronize_blocking();
      const double tolerance = 2.0 * unit_roundoff(dtype()) + 2.0 * unit_roundoff(DType::kF32);
      return Outputs{{"sum", values_of(sum), tolerance},
                     {"added", values_of(added), tolerance},
                     {"scaled", values_of(scaled), tolerance}};
    });
  }
}

TEST_P(Residual, SaysWhatIsWrong) {
  const Tensor x = real({4, 1}, {1, 2, 3, 4});
  const Tensor factors = gate_real({3}, {1, 1, 1});
  Tensor y = real_output({4, 1});
  Tensor small = real_output({2, 1});
  EXPECT_EQ(error_text([&] { add_residual({.residual = small, .x = x, .y = y}, stream()); }),
            "add_residual: residual is (2, 1), expected (4, 1)");
  EXPECT_EQ(error_text([&] { add_residual({.residual = x, .x = x, .factors = factors, .y = y}, stream()); }),
            "add_residual: 3 factors do not divide 4 rows");
  EXPECT_EQ(error_text([&] { scale_rows({.x = x, .y = y}, stream()); }),
            "scale_rows: factors is missing, expected (0)");
}

// Rounded to nearest: the narrow types round 1 + 2^-12 to 1, and tests of other values are exact.
TEST_P(Cast, RoundsToNearest) {
  for (const std::int64_t count : {0, 1, 7, 1024, 1029}) {
    std::vector<double> values = random_uniform(count, 1);
    if (count > 1) values[1] = 1.0 + 0x1p-12;
    const Tensor from = gate_real({count}, values);
    Tensor narrow = real_output({count});
    Tensor back = gate_output({count});
    cast({.from = from, .to = narrow}, stream());
    cast({.from = narrow, .to = back}, stream());
    wait();
    EXPECT_EQ(values_of(narrow), values_of(make_tensor({count}, values_of(from), dtype())));
    EXPECT_EQ(values_of(back), values_of(narrow));
  }
}

TEST_P(Cast, SaysWhatIsWrong) {
  const Tensor from = gate_real({2}, {1, 2});
  Tensor to = real_output({3});
  EXPECT_EQ(error_text([&] { cast({.from = from, .to = to}, stream()); }), "cast: to is (3), expected (2)");
  Tensor counts = ints({2}, {1, 2});
  if (device().is_cpu()) {
    EXPECT_EQ(error_text([&] { cast({.from = from, .to = counts}, stream()); }),
              "cast: to is i32; cpu computes in fp32 and fp64");
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, Residual, ::testing::ValuesIn(all_backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, Cast, ::testing::ValuesIn(all_backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, ResidualParity, ::testing::ValuesIn(compared_backends()), backend_name);

}  // namespace
}  // namespace flex::testing
