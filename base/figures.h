#pragma once

#include <string>

/// Figures as people read them: three digits and a unit.
namespace flex {

/// `1.23 MB`: three digits and a decimal unit.
[[nodiscard]] std::string format_bytes(double bytes);
/// `845 us`, `1.23 ms`, `4.56 s`: three digits.
[[nodiscard]] std::string format_us(double us);
/// Three digits with a decimal prefix: `1.23 M`.
[[nodiscard]] std::string format_count(double count);

}  // namespace flex
