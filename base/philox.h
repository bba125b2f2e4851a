#pragma once

#include <cmath>
#include <cstdint>

#include "base/error.h"
#include "base/host_device.h"

/// Random numbers that are a function of a key and a counter: no state to carry, the same bits on every
/// machine and in any order. Header-only, usable in device code.
///
/// @source Philox4x32-10 of Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC'11. The mixing
/// of seeds is
///         splitmix64's finalizer (Steele et al., "Fast Splittable Pseudorandom Number Generators",
///         OOPSLA'14).

namespace flex {

/// A counter, or the four random words made from it.
struct PhiloxBlock {
  std::uint32_t words[4];
};

struct PhiloxKey {
  std::uint32_t words[2];
};

/// The ten-round Philox4x32 bijection of `counter` under `key`.
[[nodiscard]] FLEX_HOST_DEVICE constexpr PhiloxBlock philox4x32(PhiloxBlock counter, PhiloxKey key) {
  constexpr std::uint64_t kMultiplier0 = 0xD2511F53U;
  constexpr std::uint64_t kMultiplier1 = 0xCD9E8D57U;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9U;  // golden ratio
  constexpr std::uint32_t kWeyl1 = 0xBB67AE85U;  // sqrt(3) - 1
  constexpr int kRounds = 10;
  for (int round = 0; round < kRounds; ++round) {
    const std::uint64_t product0 = kMultiplier0 * counter.words[0];
    const std::uint64_t product1 = kMultiplier1 * counter.words[2];
    counter = {{static_cast<std::uint32_t>(product1 >> 32) ^ counter.words[1] ^ key.words[0],
                static_cast<std::uint32_t>(product1),
                static_cast<std::uint32_t>(product0 >> 32) ^ counter.words[3] ^ key.words[1],
                static_cast<std::uint32_t>(product0)}};
    key = {{key.words[0] + kWeyl0, key.words[1] + kWeyl1}};
  }
  return counter;
}

/// A bijection of 64 bits in which every input bit reaches every output bit.
[[nodiscard]] FLEX_HOST_DEVICE constexpr std::uint64_t splitmix64(std::uint64_t value) {
  value += 0x9E3779B97F4A7C15U;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9U;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBU;
  return value ^ (value >> 31);
}

/// A normal variate from two random words: u1 = (radius_word + 1) 2^-32 in (0, 1], u2 = angle_word 2^-32 in
/// [0, 1), sqrt(-2 ln u1) cos(2 pi u2). Its magnitude is at most 6.67.
/// @source Box and Muller, "A Note on the Generation of Random Normal Deviates", 1958.
[[nodiscard]] FLEX_HOST_DEVICE inline double box_muller(std::uint32_t radius_word, std::uint32_t angle_word) {
  constexpr double kTwoToMinus32 = 1.0 / 4294967296.0;
  constexpr double kTwoPi = 6.283185307179586476925286766559;
  const double u1 = (static_cast<double>(radius_word) + 1.0) * kTwoToMinus32;
  const double u2 = static_cast<double>(angle_word) * kTwoToMinus32;
  return std::sqrt(-2.0 * std::log(u1)) * std::cos(kTwoPi * u2);
}

/// The N(0, 1) draw of one (token, expert) logit: a function of its arguments alone, so that neither the
/// number of ranks nor the plan changes it. `token` is the global index; `token` and `expert` are zero or
/// more.
///
/// key = splitmix64(splitmix64(seed) ^ (layer 2^32 + high half of iteration)), low word first;
/// counter = {token low, token high, expert / 2, iteration low};
/// an even expert takes words 0 and 1 of the block as box_muller's arguments, an odd one words 2 and 3.
/// Devices agree to rounding of log, sqrt and cos.
[[nodiscard]] FLEX_HOST_DEVICE inline double gate_noise_normal(std::uint64_t seed, std::uint64_t iteration,
                                                               std::uint32_t layer, std::int64_t token,
                                                               std::int64_t expert) {
  const std::uint64_t place = (static_cast<std::uint64_t>(layer) << 32) | (iteration >> 32);
  const std::uint64_t key = splitmix64(splitmix64(seed) ^ place);
  const auto token_bits = static_cast<std::uint64_t>(token);
  const PhiloxBlock block =
      philox4x32({{static_cast<std::uint32_t>(token_bits), static_cast<std::uint32_t>(token_bits >> 32),
                   static_cast<std::uint32_t>(expert / 2), static_cast<std::uint32_t>(iteration)}},
                 {{static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)}});
  return expert % 2 == 0 ? box_muller(block.words[0], block.words[1])
                         : box_muller(block.words[2], block.words[3]);
}

/// A sequence of random numbers named by (seed, stream), for parameter initialization, tests and the tuner.
/// Streams of one seed never overlap. Host only; copies continue independently from the same place.
class PhiloxStream {
 public:
  explicit PhiloxStream(std::uint64_t seed, std::uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  std::uint32_t next_u32() {
    if (used_ == 4) {
      block_ = philox4x32({{static_cast<std::uint32_t>(index_), static_cast<std::uint32_t>(index_ >> 32),
                            static_cast<std::uint32_t>(stream_), static_cast<std::uint32_t>(stream_ >> 32)}},
                          {{static_cast<std::uint32_t>(seed_), static_cast<std::uint32_t>(seed_ >> 32)}});
      ++index_;
      used_ = 0;
    }
    return block_.words[used_++];
  }

  std::uint64_t next_u64() {
    const std::uint64_t low = next_u32();
    return low | (static_cast<std::uint64_t>(next_u32()) << 32);
  }

  /// Uniform over the multiples of 2^-53 in [0, 1).
  double uniform() {
    constexpr double kTwoToMinus53 = 1.0 / 9007199254740992.0;
    return static_cast<double>(next_u64() >> 11) * kTwoToMinus53;
  }

  /// N(0, 1), from two words.
  double normal() {
    const std::uint32_t radius_word = next_u32();
    return box_muller(radius_word, next_u32());
  }

  /// Uniform over the integers 0 .. bound - 1, without bias.
  /// @throws InputError if `bound` is not positive.
  std::int64_t below(std::int64_t bound) {
    if (bound < 1) throw InputError("PhiloxStream::below: the bound is not positive; nothing lies below it");
    const auto range = static_cast<std::uint64_t>(bound);
    const std::uint64_t biased =
        (0 - range) % range;  // 2^64 mod range: this many draws would be one too many
    std::uint64_t draw = next_u64();
    while (draw < biased) draw = next_u64();
    return static_cast<std::int64_t>(draw % range);
  }

 private:
  std::uint64_t seed_;
  std::uint64_t stream_;
  std::uint64_t index_ = 0;  ///< of the next block
  PhiloxBlock block_ = {};
  int used_ = 4;  ///< words of block_ already given out
};

}  // namespace flex
