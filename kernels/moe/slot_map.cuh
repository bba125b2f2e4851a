#pragma once

#include <cstdint>

#include "kernels/moe/slot_layout.h"

namespace flex {

/// SlotLayout::row for device code. A 64-bit division costs some hundred cycles at the head of every row, so
/// the divisions are done in 32 bits wherever the numbers fit.
struct SlotMap {
  SlotLayout layout;
  bool narrow = false;

  SlotMap() = default;
  explicit SlotMap(const SlotLayout& of) : layout(of) {
    constexpr std::int64_t kMaxNarrow = 4294967295;
    narrow = of.capacity <= kMaxNarrow && of.chunks <= kMaxNarrow / (of.capacity > 0 ? of.capacity : 1);
  }

  [[nodiscard]] __device__ std::int64_t row(std::int64_t expert, std::int64_t location) const {
    if (layout.chunks == 1) return expert * layout.capacity + location;
    if (!narrow) return layout.row(expert, location);
    const auto capacity = static_cast<std::uint32_t>(layout.capacity);
    const auto parts = static_cast<std::uint32_t>(layout.parts);
    const auto chunks = static_cast<std::uint32_t>(layout.chunks);
    const std::uint32_t slots = capacity / parts;
    const std::uint32_t part = static_cast<std::uint32_t>(location) / slots;
    const std::uint32_t slot = static_cast<std::uint32_t>(location) - part * slots;
    const std::uint32_t chunk = ((slot + 1) * chunks - 1) / slots;
    const std::uint32_t begin = chunk * slots / chunks;
    const std::uint32_t end = (chunk + 1) * slots / chunks;
    return layout.num_experts * layout.parts * begin + (expert * layout.parts + part) * (end - begin) +
           (slot - begin);
  }
};

}  // namespace flex
