#pragma once

#include "tests/kernels/moe/cuda_parity.h"
#include "tests/support/kernel_test.h"
#include "tests/support/test_gemm.h"

/// Kernels of every backend beside the CPU's in double.
namespace flex::testing {

/// Every backend but the one that the others are compared with.
[[nodiscard]] inline std::vector<Backend> compared_backends() {
  std::vector<Backend> backends = all_backends();
  std::erase_if(backends, [](const Backend& backend) { return backend.dtype == DType::kF64; });
  return backends;
}

/// Fixture of parity tests. Inputs are numbers that the backend's type holds, so that both sides see the
/// same.
class Parity : public ::testing::TestWithParam<Backend> {
 protected:
  void SetUp() override {
    if (skip_device(GetParam().device)) GTEST_SKIP() << "no GPU";
  }
  [[nodiscard]] DType dtype() const { return GetParam().dtype; }
  [[nodiscard]] std::vector<double> exact(std::int64_t count, std::uint64_t seed, double low = -1.0,
                                          double high = 1.0) const {
    return random_exact(count, seed, dtype(), low, high);
  }
  [[nodiscard]] std::vector<double> exact_gate(std::int64_t count, std::uint64_t seed, double low = -1.0,
                                               double high = 1.0) const {
    return random_exact(count, seed, gate_dtype(dtype()), low, high);
  }

  /// Runs `function(side)` on the backend twice and on the CPU in double: equal bits on repeat, and each
  /// output within the tolerance that the backend's run gives.
  template <class Function>
  void expect_parity_of(const std::string& what, const Function& function) const {
    Side side(GetParam().device, dtype());
    Side twin = Side::twin();
    const Outputs actual = function(side);
    const Outputs repeated = function(side);
    const Outputs expected = function(twin);
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < actual.size(); ++i) {
      const double tolerance = tolerance_of(expected[i], actual[i].tolerance);
      EXPECT_TRUE(close(actual[i].values, expected[i].values, tolerance)) << actual[i].name << " of " << what;
      EXPECT_EQ(actual[i].values, repeated[i].values) << actual[i].name << " of " << what << " on repeat";
    }
  }
};

}  // namespace flex::testing
