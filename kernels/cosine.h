#pragma once

/// What the cosine gate and the cosine attention have in common.
namespace flex {

/// exp(min(temperature, ln 100)) is the largest factor of a cosine.
inline constexpr double kMaxCosineScale = 100.0;
/// Floor of the norms that a cosine divides by.
inline constexpr double kCosineNormFloor = 1e-12;

}  // namespace flex
