#pragma once

/// Factors between units that figures come in and those that the program computes with.
namespace flex {

inline constexpr double kBytesPerGiB = 1024.0 * 1024.0 * 1024.0;
/// 1 GB/s = 1e9 bytes / 1e6 us.
inline constexpr double kBytesPerUsPerGBps = 1e3;

}  // namespace flex
