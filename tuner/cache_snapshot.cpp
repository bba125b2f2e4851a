#include "tuner/cache_snapshot.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <tuple>

#include "base/philox.h"
#include "base/require.h"
#include "tuner/checksum.h"

namespace flex {
namespace {

constexpr std::uint64_t kMagic = 0x31504E5358454C46;  // "FLEXSNP1"
constexpr std::size_t kMaxEntries = std::size_t{1} << 30U;

std::uint64_t hash_of(std::uint64_t layer, const TuningCase& one) {
  const auto buckets = static_cast<std::uint64_t>(static_cast<std::uint32_t>(one.capacity_bucket)) << 32U |
                       static_cast<std::uint32_t>(one.imbalance_bucket);
  const auto rest = static_cast<std::uint64_t>(static_cast<std::uint32_t>(one.given_degree)) << 1U |
                    static_cast<std::uint64_t>(one.pass == Pass::kBackward);
  return splitmix64(splitmix64(layer ^ buckets) ^ rest);
}

// Entries of one layer, pass and given degree stand together.
auto order_of(const CacheSnapshot::Entry& entry) {
  return std::tuple(entry.layer, entry.one.pass, entry.one.given_degree, entry.one.capacity_bucket,
                    entry.one.imbalance_bucket);
}

// Orders neighbours of `one`.
auto nearness(const TuningCase& neighbour, const TuningCase& one) {
  const std::int64_t distance = std::abs(std::int64_t{neighbour.capacity_bucket} - one.capacity_bucket) +
                                std::abs(std::int64_t{neighbour.imbalance_bucket} - one.imbalance_bucket);
  return std::tuple(distance, neighbour.capacity_bucket, neighbour.imbalance_bucket);
}

template <class Integer>
void put(std::vector<std::byte>& bytes, Integer value) {
  const auto raw = std::bit_cast<std::array<std::byte, sizeof(Integer)>>(value);
  bytes.insert(bytes.end(), raw.begin(), raw.end());
}

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <class Integer>
  Integer get() {
    require<CacheError>(bytes_.size() >= sizeof(Integer), "snapshot of a tuning cache: it ends too early");
    Integer value;
    std::memcpy(&value, bytes_.data(), sizeof value);
    bytes_ = bytes_.subspan(sizeof value);
    return value;
  }
  /// An enumerator out of [0, count).
  template <class Enum>
  Enum get_enum(int count) {
    const auto value = get<std::uint8_t>();
    require<CacheError>(value < count, "snapshot of a tuning cache: {} is none of {} values", value, count);
    return static_cast<Enum>(value);
  }
  [[nodiscard]] bool at_end() const { return bytes_.empty(); }

 private:
  std::span<const std::byte> bytes_;
};

std::uint64_t checksum_of(std::span<const std::byte> bytes) {
  Checksum checksum;
  checksum.add(bytes);
  return checksum.value();
}

void put_entry(std::vector<std::byte>& bytes, const CacheSnapshot::Entry& entry) {
  put(bytes, entry.layer);
  put(bytes, entry.one.capacity_bucket);
  put(bytes, entry.one.imbalance_bucket);
  put(bytes, static_cast<std::uint8_t>(entry.one.pass));
  put(bytes, entry.one.given_degree);
  put(bytes, entry.plan.parallel_degree);
  put(bytes, entry.plan.pipeline_degree);
  put(bytes, static_cast<std::uint8_t>(entry.plan.all_to_all));
  put(bytes, static_cast<std::uint8_t>(entry.plan.expert_kernel));
  put(bytes, static_cast<std::uint8_t>(entry.source));
  put(bytes, static_cast<std::uint8_t>(entry.is_complete));
  put(bytes, entry.median_ns);
  put(bytes, entry.default_median_ns);
}

// Braces evaluate from left to right.
CacheSnapshot::Entry get_entry(Reader& reader) {
  return {.layer = reader.get<std::uint64_t>(),
          .one = {.capacity_bucket = reader.get<std::int32_t>(),
                  .imbalance_bucket = reader.get<std::int32_t>(),
                  .pass = reader.get_enum<Pass>(2),
                  .given_degree = reader.get<std::int32_t>()},
          .plan = {.parallel_degree = reader.get<std::int32_t>(),
                   .pipeline_degree = reader.get<std::int32_t>(),
                   .all_to_all = reader.get_enum<AllToAllAlgorithm>(2),
                   .expert_kernel = reader.get_enum<ExpertKernel>(2)},
          .source = reader.get_enum<TrialSource>(3),
          .is_complete = reader.get_enum<std::uint8_t>(2) != 0,
          .median_ns = reader.get<std::int64_t>(),
          .default_median_ns = reader.get<std::int64_t>()};
}

}  // namespace

CacheSnapshot::CacheSnapshot(std::uint64_t environment, std::vector<Entry> entries)
    : environment_(environment), entries_(std::move(entries)) {
  require(entries_.size() <= kMaxEntries, "a snapshot of {} decisions is more than it can index",
          entries_.size());
  // The cache keeps them in this order.
  if (!std::ranges::is_sorted(entries_, {}, order_of)) std::ranges::sort(entries_, {}, order_of);
  const auto twice = std::ranges::adjacent_find(entries_, {}, order_of);
  require(twice == entries_.end(), "a snapshot has two decisions of one case");
  fill_slots();
}

void CacheSnapshot::fill_slots() {
  // At most half full, so that a search ends after a few steps.
  slots_.assign(std::bit_ceil(std::max<std::size_t>(2, 2 * entries_.size())), 0);
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    std::size_t slot = hash_of(entries_[i].layer, entries_[i].one) & mask;
    while (slots_[slot] != 0) slot = (slot + 1) & mask;
    slots_[slot] = static_cast<std::uint32_t>(i + 1);
  }
}

const CacheSnapshot::Entry* CacheSnapshot::find(std::uint64_t layer, const TuningCase& one) const noexcept {
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t slot = hash_of(layer, one) & mask; slots_[slot] != 0; slot = (slot + 1) & mask) {
    const Entry& entry = entries_[slots_[slot] - 1];
    if (entry.layer == layer && entry.one == one) return &entry;
  }
  return nullptr;
}

std::array<const CacheSnapshot::Entry*, CacheSnapshot::kMaxNeighbours> CacheSnapshot::neighbours(
    std::uint64_t layer, const TuningCase& one) const noexcept {
  std::array<const Entry*, kMaxNeighbours> nearest = {};
  Entry low{.layer = layer, .one = one};
  low.one.capacity_bucket = low.one.imbalance_bucket = std::numeric_limits<std::int32_t>::min();
  auto at = std::ranges::lower_bound(entries_, order_of(low), {}, order_of);
  for (; at != entries_.end() && at->layer == layer && at->one.pass == one.pass &&
         at->one.given_degree == one.given_degree;
       ++at) {
    if (at->one == one) continue;
    const Entry* candidate = &*at;
    for (const Entry*& place : nearest) {
      if (place == nullptr || nearness(candidate->one, one) < nearness(place->one, one)) {
        std::swap(place, candidate);
      }
      if (candidate == nullptr) break;
    }
  }
  return nearest;
}

std::vector<std::byte> CacheSnapshot::to_bytes() const {
  static_assert(std::endian::native == std::endian::little);
  constexpr std::size_t kEntryBytes = 8 + 4 + 4 + 1 + 4 + 4 + 4 + 4 + 8 + 8;
  std::vector<std::byte> bytes;
  bytes.reserve(32 + entries_.size() * kEntryBytes);
  put(bytes, kMagic);
  put(bytes, environment_);
  put(bytes, static_cast<std::uint64_t>(entries_.size()));
  for (const Entry& entry : entries_) put_entry(bytes, entry);
  put(bytes, checksum_of(bytes));
  return bytes;
}

CacheSnapshot CacheSnapshot::from_bytes(std::span<const std::byte> bytes) {
  constexpr std::size_t kChecksumBytes = sizeof(std::uint64_t);
  require<CacheError>(bytes.size() > kChecksumBytes, "snapshot of a tuning cache: it ends too early");
  const auto content = bytes.first(bytes.size() - kChecksumBytes);
  const auto checksum = Reader(bytes.last(kChecksumBytes)).get<std::uint64_t>();
  require<CacheError>(checksum == checksum_of(content), "snapshot of a tuning cache: its checksum is wrong");
  Reader reader(content);
  require<CacheError>(reader.get<std::uint64_t>() == kMagic, "snapshot of a tuning cache: it is none");
  const auto environment = reader.get<std::uint64_t>();
  const auto count = reader.get<std::uint64_t>();
  std::vector<Entry> entries;
  entries.reserve(static_cast<std::size_t>(std::min<std::uint64_t>(count, content.size())));
  for (std::uint64_t i = 0; i < count; ++i) entries.push_back(get_entry(reader));
  require<CacheError>(reader.at_end(), "snapshot of a tuning cache: bytes follow its end");
  return {environment, std::move(entries)};
}

}  // namespace flex
