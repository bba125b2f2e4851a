#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "tuner/trial.h"

namespace flex {

/// The decisions of one environment in memory: immutable, looked up without allocation, locks or files, and
/// equal on all ranks once rank 0 has broadcast its bytes. May be read from several threads at once.
class CacheSnapshot {
 public:
  struct Entry {
    std::uint64_t layer = 0;  ///< layer_id
    TuningCase one;
    Plan plan;
    TrialSource source = TrialSource::kMeasured;
    bool is_complete = false;
    std::int64_t median_ns = 0;
    std::int64_t default_median_ns = 0;

    friend auto operator<=>(const Entry&, const Entry&) = default;
  };

  enum class Hit : std::uint8_t {
    kExact,      ///< a decision of this case
    kNeighbour,  ///< one of another bucket that the model says beats the default plan
    kDefault,    ///< neither
  };
  struct Answer {
    Plan plan;
    Hit hit = Hit::kDefault;
    bool is_complete = false;  ///< an exact hit whose search came to its end: there is nothing left to try
  };

  CacheSnapshot() : CacheSnapshot(0, {}) {}
  /// Entries in any order. @throws InputError if two are of one case.
  CacheSnapshot(std::uint64_t environment, std::vector<Entry> entries);

  [[nodiscard]] std::uint64_t environment() const { return environment_; }
  /// In ascending order: of a layer and a pass together, by bucket.
  [[nodiscard]] std::span<const Entry> entries() const { return entries_; }

  /// The decision of exactly this case; null if there is none.
  [[nodiscard]] const Entry* find(std::uint64_t layer, const TuningCase& one) const noexcept;

  /// What to run. Without a decision of the case, those of the nearest buckets (at most kMaxNeighbours of the
  /// same layer, pass and given r) are offered to `beats_default(const Plan&) -> bool`, a model's word for
  /// this case (and no for a plan that is illegal in it); the first that it accepts is taken, otherwise the
  /// default plan. An exact hit may be illegal at the small end of its bucket: who runs it asks is_legal().
  template <class BeatsDefault>
  [[nodiscard]] Answer lookup(std::uint64_t layer, const TuningCase& one,
                              BeatsDefault&& beats_default) const {
    if (const Entry* entry = find(layer, one)) return {entry->plan, Hit::kExact, entry->is_complete};
    const Plan baseline = default_plan(one);
    for (const Entry* entry : neighbours(layer, one)) {
      if (entry == nullptr) break;
      if (entry->plan != baseline && beats_default(entry->plan)) return {entry->plan, Hit::kNeighbour};
    }
    return {baseline, Hit::kDefault};
  }

  static constexpr std::size_t kMaxNeighbours = 4;
  /// The entries whose buckets are nearest (the sum of both distances; of equals the smaller buckets), null
  /// where there are fewer.
  [[nodiscard]] std::array<const Entry*, kMaxNeighbours> neighbours(std::uint64_t layer,
                                                                    const TuningCase& one) const noexcept;

  /// For a broadcast: the same on every little-endian machine, with a checksum at the end.
  [[nodiscard]] std::vector<std::byte> to_bytes() const;
  /// @throws CacheError if the bytes are not those of a snapshot.
  [[nodiscard]] static CacheSnapshot from_bytes(std::span<const std::byte> bytes);

  friend bool operator==(const CacheSnapshot& a, const CacheSnapshot& b) {
    return a.environment_ == b.environment_ && a.entries_ == b.entries_;
  }

 private:
  void fill_slots();

  std::uint64_t environment_;
  std::vector<Entry> entries_;
  std::vector<std::uint32_t> slots_;  ///< open addressing: 1 + index of an entry, 0 for none; a power of two
};

}  // namespace flex
