#pragma once

#include <cstdint>

#include "base/host_device.h"

namespace flex {

/// Where the slots of an encoded buffer lie, so that every (destination rank, pipeline chunk) is one
/// contiguous piece and no plan needs a copy before its exchange.
///
/// An expert's `capacity` slots are split evenly into `parts` (one for each rank of its weight group), and
/// each part into `chunks` (pipeline degree): chunk c of a part with S slots holds slots [c*S/chunks,
/// (c+1)*S/chunks). Rows are ordered (chunk, expert, part, slot). With one chunk that is plain E x C, for any
/// number of parts.
struct SlotLayout {
  std::int64_t num_experts = 0;
  std::int64_t capacity = 0;  ///< slots per expert, a multiple of parts
  std::int64_t parts = 1;
  std::int64_t chunks = 1;

  /// Slots of one part.
  [[nodiscard]] FLEX_HOST_DEVICE constexpr std::int64_t part_slots() const { return capacity / parts; }
  /// First slot of chunk c inside a part.
  [[nodiscard]] FLEX_HOST_DEVICE constexpr std::int64_t chunk_begin(std::int64_t chunk) const {
    return chunk * part_slots() / chunks;
  }
  /// Slots of chunk c inside a part.
  [[nodiscard]] FLEX_HOST_DEVICE constexpr std::int64_t chunk_slots(std::int64_t chunk) const {
    return chunk_begin(chunk + 1) - chunk_begin(chunk);
  }
  /// First row of chunk c in the buffer.
  [[nodiscard]] FLEX_HOST_DEVICE constexpr std::int64_t chunk_row(std::int64_t chunk) const {
    return num_experts * parts * chunk_begin(chunk);
  }
  /// All rows of the buffer.
  [[nodiscard]] FLEX_HOST_DEVICE constexpr std::int64_t num_rows() const { return num_experts * capacity; }

  /// Row of slot `location` of `expert`; location < capacity.
  [[nodiscard]] FLEX_HOST_DEVICE constexpr std::int64_t row(std::int64_t expert,
                                                            std::int64_t location) const {
    if (chunks == 1) return expert * capacity + location;
    const std::int64_t slots = part_slots();
    const std::int64_t part = location / slots;
    const std::int64_t slot = location - part * slots;
    // The chunk whose range holds `slot`: the largest c with floor(c*S/chunks) <= slot.
    const std::int64_t chunk = ((slot + 1) * chunks - 1) / slots;
    return chunk_row(chunk) + (expert * parts + part) * chunk_slots(chunk) + (slot - chunk_begin(chunk));
  }

  friend constexpr bool operator==(const SlotLayout&, const SlotLayout&) = default;
};

}  // namespace flex
