#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "kernels/stream.h"
#include "tests/support/compare.h"
#include "tests/support/cuda.h"
#include "tests/support/tensors.h"

/// CUDA kernels beside their CPU twins in double, over the same inputs, at sizes of real layers.
namespace flex::testing {

/// Where one of the two runs, and the tensors that it takes and fills.
class Side {
 public:
  Side(Device device, DType real_type) : stream_(device), device_(device), real_type_(real_type) {}
  [[nodiscard]] static Side twin() { return {Device::cpu(), DType::kF64}; }

  [[nodiscard]] Device device() const { return device_; }
  [[nodiscard]] DType real_type() const { return real_type_; }
  [[nodiscard]] DType gate_type() const { return gate_dtype(real_type_); }
  [[nodiscard]] Stream& stream() { return stream_; }

  [[nodiscard]] Tensor real(Shape shape, const std::vector<double>& values) const {
    return make_tensor(shape, values, real_type_, device_);
  }
  [[nodiscard]] Tensor gate(Shape shape, const std::vector<double>& values) const {
    return make_tensor(shape, values, gate_type(), device_);
  }
  [[nodiscard]] Tensor ints(Shape shape, const std::vector<double>& values) const {
    return make_tensor(shape, values, DType::kI32, device_);
  }
  [[nodiscard]] Tensor real_output(Shape shape) const { return poisoned_tensor(shape, real_type_, device_); }
  [[nodiscard]] Tensor gate_output(Shape shape) const { return poisoned_tensor(shape, gate_type(), device_); }
  [[nodiscard]] Tensor int_output(Shape shape) const { return poisoned_tensor(shape, DType::kI32, device_); }
  [[nodiscard]] Tensor bytes(std::int64_t count) const {
    return poisoned_tensor({count}, DType::kU8, device_);
  }

 private:
  Stream stream_;
  Device device_;
  DType real_type_;
};

/// Random values that `dtype` holds exactly, so that both sides see the same numbers.
[[nodiscard]] inline std::vector<double> random_exact(std::int64_t count, std::uint64_t seed, DType dtype,
                                                      double low = -1.0, double high = 1.0) {
  return values_of(make_tensor({count}, random_uniform(count, seed, low, high), dtype));
}

/// An output by its name.
struct Output {
  std::string name;
  std::vector<double> values;
  double tolerance = 0.0;  ///< by the largest magnitude
  /// The largest of the terms whose difference it is, where terms may cancel: counts as a magnitude of the
  /// output. Rounding errors are proportional to the terms, also where nothing is left of them.
  double terms = 0.0;
};
using Outputs = std::vector<Output>;

/// Relative tolerance of fp32 sums of n products of random sign that a kernel takes in chains of `chain`
/// terms: each addition is off by at most u of a partial sum, so that the error is at most (chain + 8) u sum
/// |terms|, 8 being the additions of chains; and sum |terms| is at most about sqrt(n) times the largest of
/// several sums. Two more units for the rounding of the result to `dtype`.
[[nodiscard]] inline double chain_tolerance(DType dtype, std::int64_t n, std::int64_t chain) {
  const double additions = static_cast<double>(chain) + 8.0;
  return additions * std::sqrt(static_cast<double>(n) + 1.0) * unit_roundoff(DType::kF32) +
         2.0 * unit_roundoff(dtype);
}

/// tolerance, as close() takes it, of an output of these values.
[[nodiscard]] inline double tolerance_of(const Output& expected, double tolerance) {
  double magnitude = 0.0;
  for (const double value : expected.values) magnitude = std::max(magnitude, std::fabs(value));
  if (magnitude == 0.0) magnitude = 1.0;  // close() takes errors of zeros as they are
  return tolerance * std::max(1.0, expected.terms / magnitude);
}

/// Runs `function(side)` on the GPU twice and on the CPU: equal bits on repeat, and each output within its
/// tolerance, the GPU's, of the twin's.
template <class Function>
void expect_parity(DType dtype, const Function& function) {
  Side gpu(Device::cuda(0), dtype);
  Side twin = Side::twin();
  const Outputs actual = function(gpu);
  const Outputs repeated = function(gpu);
  const Outputs expected = function(twin);
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double tolerance = tolerance_of(expected[i], actual[i].tolerance);
    EXPECT_TRUE(close(actual[i].values, expected[i].values, tolerance)) << actual[i].name;
    EXPECT_EQ(actual[i].values, repeated[i].values) << actual[i].name << " differs on repeat";
  }
}

/// Fixture of parity tests over the element types of CUDA.
class CudaParity : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override { FLEX_SKIP_WITHOUT_CUDA(); }
  [[nodiscard]] DType dtype() const { return GetParam(); }
};

inline const std::vector<DType> kCudaTypes = {DType::kF32, DType::kF16, DType::kBF16};
[[nodiscard]] inline std::string dtype_name(const ::testing::TestParamInfo<DType>& info) {
  return std::string(name(info.param));
}

}  // namespace flex::testing
