#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "base/philox.h"
#include "kernels/moe/slot_layout.h"

namespace flex::testing {

/// A legal routing of T tokens to k of E experts, in doubles as tensors are made from them.
struct Routing {
  std::vector<double> indices;    ///< (T, k)
  std::vector<double> locations;  ///< (T, k)
  std::vector<double> counts;     ///< (E)
};

/// Random distinct experts for each token; locations in token order, first choices before second ones.
[[nodiscard]] inline Routing random_routing(std::int64_t tokens, std::int64_t experts, std::int64_t top_k,
                                            std::uint64_t seed) {
  PhiloxStream random(seed);
  Routing routing = {.indices = std::vector<double>(tokens * top_k),
                     .locations = std::vector<double>(tokens * top_k),
                     .counts = std::vector<double>(experts, 0.0)};
  std::vector<double> shuffled(experts);
  std::iota(shuffled.begin(), shuffled.end(), 0.0);
  for (std::int64_t token = 0; token < tokens; ++token) {
    for (std::int64_t i = 0; i < top_k; ++i) {
      std::swap(shuffled[i], shuffled[i + random.below(experts - i)]);
      routing.indices[token * top_k + i] = shuffled[i];
    }
  }
  for (std::int64_t choice = 0; choice < top_k; ++choice) {
    for (std::int64_t token = 0; token < tokens; ++token) {
      const std::int64_t i = token * top_k + choice;
      routing.locations[i] = routing.counts[static_cast<std::int64_t>(routing.indices[i])]++;
    }
  }
  return routing;
}

/// Row of slot `location` of `expert` at [expert * capacity + location], by walking the rows in their order
/// (chunk, expert, part, slot) instead of by SlotLayout::row.
[[nodiscard]] inline std::vector<std::int64_t> walk_rows(const SlotLayout& layout) {
  std::vector<std::int64_t> rows(layout.num_experts * layout.capacity, -1);
  const std::int64_t part_slots = layout.capacity / layout.parts;
  std::int64_t row = 0;
  for (std::int64_t chunk = 0; chunk < layout.chunks; ++chunk) {
    const std::int64_t begin = chunk * part_slots / layout.chunks;
    const std::int64_t end = (chunk + 1) * part_slots / layout.chunks;
    for (std::int64_t expert = 0; expert < layout.num_experts; ++expert) {
      for (std::int64_t part = 0; part < layout.parts; ++part) {
        for (std::int64_t slot = begin; slot < end; ++slot) {
          rows[expert * layout.capacity + part * part_slots + slot] = row++;
        }
      }
    }
  }
  return rows;
}

/// Shapes of one encode or decode: `parts` of `slots` slots for each expert, of which `capacity` may be
/// taken.
struct SlotSizes {
  std::int64_t tokens, model_dim, experts, top_k, capacity, parts, slots, chunks;
};

inline const std::vector<SlotSizes> kSlotSizes = {
    {0, 4, 2, 1, 0, 1, 0, 1},         // no tokens, no slots
    {0, 4, 2, 2, 3, 1, 3, 2},         // no tokens, slots to be zeroed
    {5, 0, 2, 1, 2, 1, 2, 1},         // no channels
    {1, 1, 1, 1, 1, 1, 1, 1},         // one of everything
    {7, 3, 5, 5, 4, 3, 2, 2},         // k = E, padding, parts and chunks
    {33, 37, 7, 3, 11, 2, 7, 4},      // nothing divides
    {19, 130, 3, 2, 0, 1, 4, 1},      // everything is dropped
    {512, 96, 16, 2, 64, 4, 16, 8}};  // a real layer, small

[[nodiscard]] inline SlotLayout layout_of(const SlotSizes& s) {
  return {.num_experts = s.experts, .capacity = s.parts * s.slots, .parts = s.parts, .chunks = s.chunks};
}

/// A choice that is not dropped, and the row of its slot.
struct KeptChoice {
  std::int64_t token, choice, row;
};

[[nodiscard]] inline std::vector<KeptChoice> kept_choices(const Routing& routing, const SlotSizes& s) {
  const std::vector<std::int64_t> rows = walk_rows(layout_of(s));
  std::vector<KeptChoice> kept;
  for (std::int64_t i = 0; i < s.tokens * s.top_k; ++i) {
    const auto location = static_cast<std::int64_t>(routing.locations[i]);
    const auto expert = static_cast<std::int64_t>(routing.indices[i]);
    if (location >= s.capacity) continue;
    kept.push_back({i / s.top_k, i % s.top_k, rows[expert * s.parts * s.slots + location]});
  }
  return kept;
}

}  // namespace flex::testing
