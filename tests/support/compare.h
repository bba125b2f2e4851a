#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/error.h"
#include "kernels/dtype.h"

/// Comparisons of results, and of error texts.
namespace flex::testing {

/// Largest |actual - expected| over the largest |expected| (over 1 where all are zero). Infinite for a NaN or
/// for different sizes.
[[nodiscard]] inline double max_relative_error(const std::vector<double>& actual,
                                               const std::vector<double>& expected) {
  if (actual.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double error = 0.0;
  double magnitude = 0.0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double difference = std::fabs(actual[i] - expected[i]);
    if (!(difference <= std::numeric_limits<double>::max())) return std::numeric_limits<double>::infinity();
    error = std::max(error, difference);
    magnitude = std::max(magnitude, std::fabs(expected[i]));
  }
  return magnitude > 0.0 ? error / magnitude : error;
}

/// Passes if max_relative_error is at most `relative`; otherwise shows the worst element.
[[nodiscard]] inline ::testing::AssertionResult close(const std::vector<double>& actual,
                                                      const std::vector<double>& expected, double relative) {
  if (actual.size() != expected.size()) {
    return ::testing::AssertionFailure() << actual.size() << " values, expected " << expected.size();
  }
  const double error = max_relative_error(actual, expected);
  if (error <= relative) return ::testing::AssertionSuccess();
  std::size_t worst = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double difference = std::fabs(actual[i] - expected[i]);
    if (!(difference <= std::fabs(actual[worst] - expected[worst]))) worst = i;
  }
  return ::testing::AssertionFailure()
         << "element " << worst << " is " << actual[worst] << ", expected " << expected[worst] << ": error "
         << error << " of the largest magnitude, more than " << relative;
}

/// Half the distance from 1 to the next number of the type.
[[nodiscard]] constexpr double unit_roundoff(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return 0x1p-53;
    case DType::kF32:
      return 0x1p-24;
    case DType::kF16:
      return 0x1p-11;
    case DType::kBF16:
      return 0x1p-8;
    default:
      return 0.0;
  }
}

/// Relative tolerance, by the largest magnitude, of sums of n products of values of similar size. A sum in
/// any order is off by at most n u sum |terms| (Higham, "Accuracy and Stability", 3.1). For terms of random
/// sign, sum |terms| is at most about sqrt(n) times the largest of several sums. One more u for the rounding
/// of the result; sums of fp16 and bf16 are taken in fp32, so that n counts with fp32's u.
[[nodiscard]] inline double product_tolerance(DType dtype, std::int64_t n) {
  const double accumulate = std::min(unit_roundoff(dtype), unit_roundoff(DType::kF32));
  const auto terms = static_cast<double>(n + 1);
  return terms * std::sqrt(terms) * accumulate + 2.0 * unit_roundoff(dtype);
}

/// What `function` throws, of type E (or a subclass), as text.
template <class E = InputError, class Function>
[[nodiscard]] std::string error_text(Function&& function) {
  try {
    function();
  } catch (const E& error) {
    return error.what();
  }
  return "(nothing was thrown)";
}

}  // namespace flex::testing
