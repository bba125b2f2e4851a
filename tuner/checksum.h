#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "base/philox.h"

namespace flex {

/// 64 bits over a sequence of typed values: what a row of the tuning cache carries, and what the cache knows
/// environments, layers and trials by. Values are told apart by type, length and order. Equal on every
/// little-endian machine and in every run; it finds accidents, not forgeries.
class Checksum {
 public:
  void add(std::int64_t value) {
    mix(kInteger);
    mix(static_cast<std::uint64_t>(value));
  }
  void add(std::string_view text) { add_bytes(kText, std::as_bytes(std::span(text))); }
  void add(std::span<const std::byte> bytes) { add_bytes(kBytes, bytes); }
  /// A value that is none of these, as a damaged row may hold.
  void add_other() { mix(kOther); }

  [[nodiscard]] std::uint64_t value() const { return state_; }

 private:
  enum Type : std::uint8_t { kInteger = 1, kText, kBytes, kOther };

  void mix(std::uint64_t word) { state_ = splitmix64(state_ ^ word); }

  void add_bytes(Type type, std::span<const std::byte> bytes) {
    mix(type | static_cast<std::uint64_t>(bytes.size()) << 8U);
    while (!bytes.empty()) {
      std::uint64_t word = 0;
      const std::size_t count = std::min(bytes.size(), sizeof word);
      std::memcpy(&word, bytes.data(), count);
      mix(word);
      bytes = bytes.subspan(count);
    }
  }

  std::uint64_t state_ = 0;
};

}  // namespace flex
