#include "base/philox.h"
#include "tests/performance/measured_work.h"
#include "tuner/cache_snapshot.h"

/// 100,000 look-ups in a snapshot of 4,096 decisions: half of them are there.
namespace {

constexpr std::int32_t kBuckets = 1024;
constexpr std::uint64_t kLayer = 17;

flex::CacheSnapshot make_snapshot() {
  std::vector<flex::CacheSnapshot::Entry> entries;
  for (std::int32_t capacity = 0; capacity < kBuckets; ++capacity) {
    for (std::int32_t imbalance = 0; imbalance < 4; ++imbalance) {
      entries.push_back({.layer = kLayer,
                         .one = {.capacity_bucket = capacity, .imbalance_bucket = imbalance},
                         .plan = flex::kDefaultPlan,
                         .is_complete = true});
    }
  }
  return {1, std::move(entries)};
}

const flex::CacheSnapshot& snapshot() {
  static const flex::CacheSnapshot made = make_snapshot();
  return made;
}

}  // namespace

void prepare_work() { (void)snapshot(); }

std::int64_t measured_work() {
  flex::PhiloxStream random(1);
  std::int64_t num_found = 0;
  for (int i = 0; i < 100'000; ++i) {
    const flex::TuningCase one{.capacity_bucket = static_cast<std::int32_t>(random.below(2 * kBuckets)),
                               .imbalance_bucket = static_cast<std::int32_t>(random.below(4))};
    num_found += snapshot().find(kLayer, one) != nullptr ? 1 : 0;
  }
  return num_found;
}
