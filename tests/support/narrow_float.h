#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

/// fp16 and bf16 on the host, bit by bit: slow, for tests.
namespace flex::testing {

/// A 16-bit IEEE-like format with `kMantissaBits` of fraction.
template <int kMantissaBits>
struct NarrowFloat {
  static constexpr int kExponentBits = 15 - kMantissaBits;
  static constexpr int kBias = (1 << (kExponentBits - 1)) - 1;
  static constexpr std::uint16_t kInfinity = ((1 << kExponentBits) - 1) << kMantissaBits;

  /// Rounds to nearest, ties to even.
  [[nodiscard]] static std::uint16_t from_double(double value) {
    const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    if (std::isnan(value)) return static_cast<std::uint16_t>(sign | kInfinity | 1);
    if (std::isinf(value)) return static_cast<std::uint16_t>(sign | kInfinity);
    if (value == 0.0) return sign;
    const int smallest = 1 - kBias;
    const int exponent = std::ilogb(value) < smallest ? smallest : std::ilogb(value);
    // In units of the last place of this exponent. A carry out of the fraction runs into the exponent, as it
    // should.
    const auto units =
        static_cast<std::int64_t>(std::nearbyint(std::ldexp(std::fabs(value), kMantissaBits - exponent)));
    const std::int64_t bits = (static_cast<std::int64_t>(exponent - smallest) << kMantissaBits) + units;
    return static_cast<std::uint16_t>(sign | (bits < kInfinity ? bits : kInfinity));
  }

  [[nodiscard]] static double to_double(std::uint16_t bits) {
    const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
    const int exponent = (bits & kInfinity) >> kMantissaBits;
    const int fraction = bits & ((1 << kMantissaBits) - 1);
    if (exponent == (1 << kExponentBits) - 1) {
      return fraction == 0 ? sign * std::numeric_limits<double>::infinity()
                           : std::numeric_limits<double>::quiet_NaN();
    }
    if (exponent == 0) return sign * std::ldexp(fraction, 1 - kBias - kMantissaBits);
    return sign * std::ldexp(fraction + (1 << kMantissaBits), exponent - kBias - kMantissaBits);
  }
};

using Fp16 = NarrowFloat<10>;
using Bf16 = NarrowFloat<7>;

}  // namespace flex::testing
