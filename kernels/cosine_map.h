#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/cosine.h"
#include "kernels/matrix_map.h"

/// Cosines in the CPU kernels. Included by .cpp files only.
namespace flex {

template <class T>
[[nodiscard]] T floored(T norm) {
  return std::max(norm, static_cast<T>(kCosineNormFloor));
}

/// Factor of a cosine, from its logarithm.
template <class T>
[[nodiscard]] T cosine_scale(T temperature) {
  return std::exp(std::min(temperature, static_cast<T>(std::log(kMaxCosineScale))));
}
/// True where cosine_scale does not depend on the temperature any more.
template <class T>
[[nodiscard]] bool is_clamped(T temperature) {
  return temperature > static_cast<T>(std::log(kMaxCosineScale));
}

/// Gradient of v by way of v / max(|v|, floor), in place: on entry `gradient` is that of the normalized
/// vector. Where the floor binds, the divisor is a constant.
template <class Vector, class Gradient>
void normalize_backward(const Vector& v, Gradient gradient) {
  using T = typename Vector::Scalar;
  const T norm = v.norm();
  const T divisor = floored(norm);
  const T along = norm > static_cast<T>(kCosineNormFloor) ? v.dot(gradient) / (divisor * divisor) : T(0);
  gradient = (gradient - along * v) / divisor;
}

}  // namespace flex
