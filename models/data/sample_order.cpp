#include "models/data/sample_order.h"

#include <cmath>

#include "base/philox.h"
#include "base/require.h"

namespace flex {
namespace {

constexpr std::uint32_t kRounds = 8;                   // each a full Philox: more than a shuffle needs
constexpr std::uint64_t kOrder = 0x6F72646572000000U;  // keeps its numbers from other users of the seed

}  // namespace

SampleOrder::SampleOrder(std::int64_t count, std::uint64_t seed)
    : count_(count), seed_(splitmix64(splitmix64(seed) ^ kOrder)) {
  require(count >= 1 && count <= std::int64_t{1} << 62, "SampleOrder: there is no order of {} images", count);
  low_base_ = static_cast<std::uint64_t>(std::ceil(std::sqrt(static_cast<double>(count))));
  high_base_ = (static_cast<std::uint64_t>(count) + low_base_ - 1) / low_base_;
}

SampleOrder::Place SampleOrder::at(std::int64_t position) const {
  const std::int64_t epoch = position / count_;
  auto place = static_cast<std::uint64_t>(position % count_);
  do {
    place = permuted(static_cast<std::uint64_t>(epoch), place);
  } while (place >= static_cast<std::uint64_t>(count_));
  return {epoch, static_cast<std::int64_t>(place)};
}

std::uint64_t SampleOrder::permuted(std::uint64_t epoch, std::uint64_t place) const {
  const std::uint64_t key = splitmix64(seed_ ^ epoch);
  std::uint64_t low = place % low_base_;
  std::uint64_t high = place / low_base_;
  const auto word = [&](std::uint32_t round, std::uint64_t digit) -> std::uint64_t {
    const PhiloxBlock block =
        philox4x32({{static_cast<std::uint32_t>(digit), static_cast<std::uint32_t>(digit >> 32), round, 0}},
                   {{static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)}});
    return block.words[0] | static_cast<std::uint64_t>(block.words[1]) << 32;
  };
  for (std::uint32_t round = 0; round < kRounds; round += 2) {
    low = (low + word(round, high) % low_base_) % low_base_;
    high = (high + word(round + 1, low) % high_base_) % high_base_;
  }
  return high * low_base_ + low;
}

}  // namespace flex
