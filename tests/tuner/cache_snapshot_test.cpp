#include "tuner/cache_snapshot.h"

#include <gmock/gmock.h>

#include <chrono>
#include <map>

#include "base/philox.h"
#include "tests/base/expect_error.h"
#include "tests/support/count_allocations.h"
#include "tests/tuner/cache_cases.h"

namespace flex {
namespace {

using ::testing::HasSubstr;
using Entry = CacheSnapshot::Entry;
using Hit = CacheSnapshot::Hit;

constexpr std::uint64_t kLayer = 77;

Entry entry_at(std::int32_t capacity, std::int32_t imbalance, const char* plan) {
  return {.layer = kLayer,
          .one = {.capacity_bucket = capacity, .imbalance_bucket = imbalance},
          .plan = parse_plan(plan),
          .is_complete = true,
          .median_ns = 10 + capacity,
          .default_median_ns = 20};
}

const auto kNever = [](const Plan&) { return false; };
const auto kAlways = [](const Plan&) { return true; };

TEST(CacheSnapshot, FindsWhatIsThereAndNothingElse) {
  std::map<TuningCase, Entry> truth;
  PhiloxStream random(3);
  std::vector<Entry> entries;
  while (entries.size() < 1000) {
    Entry entry = entry_at(static_cast<std::int32_t>(random.below(100)),
                           static_cast<std::int32_t>(random.below(8)), "r2 d4 2dh");
    entry.one.pass = random.below(2) == 0 ? Pass::kForward : Pass::kBackward;
    entry.one.given_degree = static_cast<std::int32_t>(random.below(4)) - 1;
    entry.median_ns = static_cast<std::int64_t>(entries.size());
    if (truth.emplace(entry.one, entry).second) entries.push_back(entry);
  }
  const CacheSnapshot snapshot(9, entries);
  EXPECT_EQ(snapshot.environment(), 9);
  for (std::int32_t capacity = 0; capacity < 101; ++capacity) {
    for (std::int32_t imbalance = 0; imbalance < 9; ++imbalance) {
      for (const Pass pass : {Pass::kForward, Pass::kBackward}) {
        for (std::int32_t degree = -1; degree < 4; ++degree) {
          const TuningCase one = {capacity, imbalance, pass, degree};
          const auto expected = truth.find(one);
          const Entry* found = snapshot.find(kLayer, one);
          ASSERT_EQ(found != nullptr, expected != truth.end());
          if (found != nullptr) {
            EXPECT_EQ(*found, expected->second);
          }
          EXPECT_EQ(snapshot.find(kLayer + 1, one), nullptr);
        }
      }
    }
  }
}

TEST(CacheSnapshot, AnEmptyOneAnswersWithTheDefaultPlan) {
  const CacheSnapshot snapshot;
  const auto answer = snapshot.lookup(kLayer, {}, kAlways);
  EXPECT_EQ(answer.plan, kDefaultPlan);
  EXPECT_EQ(answer.hit, Hit::kDefault);
  EXPECT_FALSE(answer.is_complete);
  EXPECT_EQ(to_string(snapshot.lookup(kLayer, {.given_degree = 4}, kAlways).plan), "r4 d1 linear");
}

TEST(CacheSnapshot, TellsCompleteFromIncomplete) {
  Entry open = entry_at(4, 0, "r0");
  open.is_complete = false;
  const CacheSnapshot snapshot(1, {entry_at(3, 0, "r2"), open});
  EXPECT_TRUE(snapshot.lookup(kLayer, {.capacity_bucket = 3}, kNever).is_complete);
  const auto answer = snapshot.lookup(kLayer, {.capacity_bucket = 4}, kNever);
  EXPECT_EQ(answer.hit, Hit::kExact);
  EXPECT_EQ(answer.plan, parse_plan("r0"));
  EXPECT_FALSE(answer.is_complete);
}

TEST(CacheSnapshot, ANeighbourNeedsTheModelsWord) {
  const CacheSnapshot snapshot(1, {entry_at(3, 0, "r2"), entry_at(9, 0, "r4")});
  EXPECT_EQ(snapshot.lookup(kLayer, {.capacity_bucket = 4}, kNever).hit, Hit::kDefault);
  EXPECT_EQ(snapshot.lookup(kLayer, {.capacity_bucket = 4}, kNever).plan, kDefaultPlan);
  const auto answer = snapshot.lookup(kLayer, {.capacity_bucket = 4}, kAlways);
  EXPECT_EQ(answer.hit, Hit::kNeighbour);
  EXPECT_EQ(answer.plan, parse_plan("r2"));
  EXPECT_FALSE(answer.is_complete);
  const auto second = snapshot.lookup(kLayer, {.capacity_bucket = 4},
                                      [](const Plan& plan) { return plan == parse_plan("r4"); });
  EXPECT_EQ(second.plan, parse_plan("r4"));
}

TEST(CacheSnapshot, NeighboursAreTheNearestOfTheSameKind) {
  Entry backward = entry_at(10, 0, "r0");
  backward.one.pass = Pass::kBackward;
  Entry given = entry_at(10, 1, "r0");
  given.one.given_degree = 1;
  const CacheSnapshot snapshot(
      1, {entry_at(5, 0, "r1 d2"), entry_at(15, 0, "r1 d4"), entry_at(12, 1, "r2"), entry_at(10, 2, "r4"),
          entry_at(0, 0, "r8"), entry_at(90, 0, "r16"), backward, given});
  std::vector<std::pair<int, int>> buckets;
  for (const Entry* entry : snapshot.neighbours(kLayer, {.capacity_bucket = 10})) {
    ASSERT_NE(entry, nullptr);
    buckets.emplace_back(entry->one.capacity_bucket, entry->one.imbalance_bucket);
  }
  // Distances 2, 3, 5 and 5, the smaller bucket first; 10 and 80 do not fit.
  EXPECT_THAT(buckets,
              ::testing::ElementsAre(std::pair(10, 2), std::pair(12, 1), std::pair(5, 0), std::pair(15, 0)));
  const auto few = snapshot.neighbours(kLayer, {.capacity_bucket = 10, .pass = Pass::kBackward});
  EXPECT_EQ(few[0], nullptr) << "its own case is no neighbour";
}

TEST(CacheSnapshot, TwoDecisionsOfOneCaseAreRefused) {
  EXPECT_THAT(message_of<InputError>([] {
                CacheSnapshot(1, {entry_at(1, 0, "r1"), entry_at(1, 0, "r2")});
              }),
              HasSubstr("two decisions of one case"));
}

TEST(CacheSnapshot, BytesRoundTrip) {
  Entry odd = entry_at(8, 3, "r0 counted");
  odd.source = TrialSource::kSimulated;
  odd.is_complete = false;
  odd.one = {8, 3, Pass::kBackward, 0};
  for (const CacheSnapshot& snapshot :
       {CacheSnapshot(), CacheSnapshot(123, {entry_at(5, 0, "r1 d2"), odd, entry_at(1, 1, "r16 d8 2dh")})}) {
    const std::vector<std::byte> bytes = snapshot.to_bytes();
    EXPECT_EQ(CacheSnapshot::from_bytes(bytes), snapshot);
    EXPECT_EQ(CacheSnapshot::from_bytes(bytes).to_bytes(), bytes);
  }
}

// One flipped bit anywhere, or any cut, is noticed.
TEST(CacheSnapshot, BadBytesAreRefused) {
  std::vector<std::byte> bytes =
      CacheSnapshot(123, {entry_at(5, 0, "r1 d2"), entry_at(6, 0, "r2")}).to_bytes();
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] ^= std::byte{0x10};
    EXPECT_THAT(message_of<CacheError>([&] { (void)CacheSnapshot::from_bytes(bytes); }),
                HasSubstr("snapshot of a tuning cache: its checksum is wrong"));
    bytes[i] ^= std::byte{0x10};
    EXPECT_THROW((void)CacheSnapshot::from_bytes(std::span(bytes).first(i)), CacheError);
  }
}

TEST(CacheSnapshot, LooksUpWithoutAllocationAndSoon) {
  std::vector<Entry> entries;
  for (std::int32_t i = 0; i < 100'000; ++i) entries.push_back(entry_at(i / 4, i % 4, "r2 d2"));
  const CacheSnapshot snapshot(1, std::move(entries));
  constexpr int kLookups = 100'000;
  std::int64_t found = 0;
  PhiloxStream random(1);
  const std::int64_t allocations = testing::num_allocations();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < kLookups; ++i) {
    const TuningCase one = {.capacity_bucket = static_cast<std::int32_t>(random.below(30'000))};
    found += snapshot.find(kLayer, one) == nullptr ? 0 : 1;
  }
  const std::chrono::duration<double, std::nano> elapsed = std::chrono::steady_clock::now() - start;
  (void)snapshot.lookup(kLayer, {.capacity_bucket = 40'000}, kNever);
  EXPECT_EQ(testing::num_allocations(), allocations);
  EXPECT_NEAR(static_cast<double>(found), kLookups * 25.0 / 30.0, kLookups / 50.0);
  // bench/tuning_cache_bench.cpp measures; here only what no machine should need.
  EXPECT_LT(elapsed.count() / kLookups, 20'000.0);
}

}  // namespace
}  // namespace flex
