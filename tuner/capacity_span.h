#pragma once

#include <algorithm>
#include <cstdint>

/// Private to the online policy.
namespace flex {

/// Capacities that are looked at together.
struct CapacitySpan {
  std::int64_t low = 0;   ///< included
  std::int64_t high = 0;  ///< included

  [[nodiscard]] bool contains(std::int64_t capacity) const { return low <= capacity && capacity <= high; }
  [[nodiscard]] std::int64_t middle() const { return low + (high - low) / 2; }
  friend bool operator==(const CapacitySpan&, const CapacitySpan&) = default;
};

/// Of a bucket of the cache: see capacity_bucket().
inline constexpr std::int64_t kBucketWidth = 128;

/// A span in which one linearized model serves: about a quarter wide, of whole buckets from 4 buckets on.
[[nodiscard]] constexpr CapacitySpan region_span(std::int64_t capacity) {
  std::int64_t low = 0;
  for (;;) {
    std::int64_t next = std::max(low + 1, low + low / 4);
    if (next > 4 * kBucketWidth) next = next / kBucketWidth * kBucketWidth;
    if (capacity < next) return {low, next - 1};
    low = next;
  }
}

/// The part of `capacity`'s bucket that lies in its region.
[[nodiscard]] constexpr CapacitySpan bucket_span(std::int64_t capacity) {
  const CapacitySpan region = region_span(capacity);
  const std::int64_t begin = capacity / kBucketWidth * kBucketWidth;
  return {std::max(region.low, begin), std::min(region.high, begin + kBucketWidth - 1)};
}

}  // namespace flex
