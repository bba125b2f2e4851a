#pragma once

#include <vector>

#include "kernels/tensor.h"

namespace flex::testing {

/// Step of the central differences, and the relative tolerance that they can be held to. With f and its
/// derivatives of order 1, truncation is step^2 / 6 * f''' = 2e-11 and rounding u |f| / step = 1e-11 of
/// values of order 1; losses sum up to some hundreds of terms, and third derivatives of a steep softmax or of
/// the load reach some hundreds.
inline constexpr double kFiniteDifferenceStep = 1e-5;
inline constexpr double kFiniteDifferenceTolerance = 1e-7;

/// Gradient of `loss()`, a double that depends on the fp64 CPU tensor `x`, by every element of x.
template <class Loss>
[[nodiscard]] std::vector<double> numeric_gradient(Tensor& x, const Loss& loss,
                                                   double step = kFiniteDifferenceStep) {
  std::vector<double> gradient(static_cast<std::size_t>(x.num_elements()));
  auto* values = x.as<double>();
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    const double original = values[i];
    values[i] = original + step;
    const double above = loss();
    values[i] = original - step;
    const double below = loss();
    values[i] = original;
    gradient[i] = (above - below) / (2.0 * step);
  }
  return gradient;
}

/// sum of a * b: the usual loss, whose gradient by a is b.
[[nodiscard]] inline double inner_product(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace flex::testing
