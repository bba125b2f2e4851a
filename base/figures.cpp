#include "base/figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

namespace flex {
namespace {

std::string three_digits(double value) {
  if (value == 0 || !std::isfinite(value)) return fmt::format("{:.0f}", value);
  const int digits = static_cast<int>(std::floor(std::log10(std::abs(value))));
  return fmt::format("{:.{}f}", value, std::clamp(2 - digits, 0, 6));
}

std::string with_prefix(double value, double base, std::string_view unit) {
  constexpr std::array<std::string_view, 6> kPrefixes = {"", "k", "M", "G", "T", "P"};
  std::size_t prefix = 0;
  // 999.5 would be printed as four digits.
  while (std::abs(value) >= base * 0.9995 && prefix + 1 < kPrefixes.size()) {
    value /= base;
    ++prefix;
  }
  return fmt::format("{} {}{}", three_digits(value), kPrefixes[prefix], unit);
}

}  // namespace

std::string format_bytes(double bytes) { return with_prefix(bytes, 1000, "B"); }

std::string format_us(double us) {
  if (std::abs(us) < 999.5) return three_digits(us) + " us";
  if (std::abs(us) < 999.5e3) return three_digits(us * 1e-3) + " ms";
  return three_digits(us * 1e-6) + " s";
}

std::string format_count(double count) {
  std::string text = with_prefix(count, 1000, "");
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

}  // namespace flex
