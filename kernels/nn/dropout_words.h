#pragma once

#include "base/philox.h"

namespace flex {

/// Uniform words for units 4 b to 4 b + 3 of a token, `unit_block` being b: a function of its arguments
/// alone, so that neither the number of ranks nor the plan changes it. `token` is the global index.
///
/// key as gate_noise_normal's, with the seed mixed once more, so that the two draw from different sequences;
/// counter = {token low, token high, unit_block, iteration low}.
[[nodiscard]] FLEX_HOST_DEVICE constexpr PhiloxBlock dropout_words(std::uint64_t seed,
                                                                   std::uint64_t iteration,
                                                                   std::uint32_t layer, std::int64_t token,
                                                                   std::int64_t unit_block) {
  const std::uint64_t place = (static_cast<std::uint64_t>(layer) << 32) | (iteration >> 32);
  const std::uint64_t key = splitmix64(splitmix64(splitmix64(seed)) ^ place);
  const auto token_bits = static_cast<std::uint64_t>(token);
  return philox4x32({{static_cast<std::uint32_t>(token_bits), static_cast<std::uint32_t>(token_bits >> 32),
                      static_cast<std::uint32_t>(unit_block), static_cast<std::uint32_t>(iteration)}},
                    {{static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)}});
}

}  // namespace flex
