#pragma once

#include <cmath>
#include <numbers>

#include "kernels/moe/expert_ffn.h"

/// Activations as the CPU kernels compute them.
namespace flex {

template <class T>
[[nodiscard]] T sigmoid(T v) {
  return T(1) / (T(1) + std::exp(-v));
}

/// Standard normal distribution function. erfc keeps the relative accuracy of the lower tail, where 1 + erf
/// cancels.
template <class T>
[[nodiscard]] T normal_cdf(T v) {
  return std::erfc(-v / std::numbers::sqrt2_v<T>) / T(2);
}

template <class T>
[[nodiscard]] T activate(Activation activation, T v) {
  switch (activation) {
    case Activation::kGelu:
      return v * normal_cdf(v);
    case Activation::kRelu:
      return v > T(0) ? v : T(0);
    case Activation::kSilu:
      return v * sigmoid(v);
  }
  return v;
}

/// Derivative of activate().
template <class T>
[[nodiscard]] T activation_slope(Activation activation, T v) {
  switch (activation) {
    case Activation::kGelu: {
      const T density = std::exp(-v * v / T(2)) * std::numbers::inv_sqrtpi_v<T> / std::numbers::sqrt2_v<T>;
      return normal_cdf(v) + v * density;
    }
    case Activation::kRelu:
      return v > T(0) ? T(1) : T(0);
    case Activation::kSilu: {
      const T s = sigmoid(v);
      return s * (T(1) + v * (T(1) - s));
    }
  }
  return T(1);
}

}  // namespace flex
