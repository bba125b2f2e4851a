#pragma once

#include "kernels/check.h"
#include "kernels/moe/slot_layout.h"
#include "kernels/tensor.h"

/// What encode and decode share. Host code only.
namespace flex {

/// @throws InputError for a layout that cannot be, or a capacity that it does not hold.
inline void require_layout(const ArgumentCheck& check, const SlotLayout& layout, std::int64_t capacity) {
  require(
      layout.num_experts >= 1 && layout.capacity >= 0 && layout.parts >= 1 && layout.chunks >= 1,
      "{}: a layout has experts, parts and chunks of 1 or more and slots of 0 or more, not {}, {}, {} and {}",
      check.kernel(), layout.num_experts, layout.parts, layout.chunks, layout.capacity);
  require(layout.capacity % layout.parts == 0, "{}: {} parts do not divide a layout's {} slots",
          check.kernel(), layout.parts, layout.capacity);
  require(capacity >= 0 && capacity <= layout.capacity, "{}: capacity is {}, expected 0 to the layout's {}",
          check.kernel(), capacity, layout.capacity);
}

/// Zeroes the rows of `buffer` that no choice takes: slots [min(count, capacity), layout.capacity) of each
/// expert.
template <class T>
void zero_unused_slots(const SlotLayout& layout, std::int64_t capacity, const ConstTensorView& counts,
                       const TensorView& buffer) {
  const std::int64_t model_dim = buffer.size(1);
  for (std::int64_t expert = 0; expert < layout.num_experts; ++expert) {
    const std::int64_t wanted = counts.as<std::int32_t>()[expert];
    for (std::int64_t slot = wanted < capacity ? wanted : capacity; slot < layout.capacity; ++slot) {
      T* row = buffer.slice<T>(layout.row(expert, slot));
      for (std::int64_t c = 0; c < model_dim; ++c) row[c] = T(0);
    }
  }
}

}  // namespace flex
