#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/base/expect_error.h"
#include "tests/base/temporary_directory.h"
#include "tests/tuner/cache_cases.h"
#include "tuner/sqlite.h"

/// Samples of operations in the cache.
namespace flex::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

Environment environment() { return key_at(0).environment; }

CostSample sample(std::int64_t duration_ns) {
  return {.kind = OperationKind::kEncode,
          .dtype = DType::kBF16,
          .bytes = 1 << 20,
          .duration_ns = duration_ns,
          .issue_ns = 4000,
          .device = "Device 9",
          .source = "a test"};
}

TEST(CacheSamples, AreKeptByEnvironmentAndPart) {
  const TemporaryDirectory directory;
  {
    TuningCache cache = TuningCache::open(directory / "t.db");
    EXPECT_THAT(cache.samples(environment()), IsEmpty());
    cache.record_samples(environment(), "b", std::vector{sample(1), sample(2)});
    cache.record_samples(environment(), "a", std::vector{sample(3)});
    cache.record_samples(environment(), "b", std::vector{sample(5), sample(4)});  // measured again
    EXPECT_THAT(cache.verify(), IsEmpty());
  }
  TuningCache cache = TuningCache::open(directory / "t.db", {.mode = CacheMode::kRead});
  const std::vector<SamplePart> parts = cache.samples(environment());
  ASSERT_EQ(parts.size(), 2U);
  EXPECT_EQ(parts[0].name, "a");
  EXPECT_THAT(parts[0].samples, ElementsAre(sample(3)));
  EXPECT_EQ(parts[1].name, "b");
  EXPECT_THAT(parts[1].samples, ElementsAre(sample(5), sample(4)));
  EXPECT_GT(parts[1].measured_at_ns, 1'700'000'000'000'000'000);
  Environment other = environment();
  other.driver = "580.2";
  EXPECT_THAT(cache.samples(other), IsEmpty()) << "another driver is a miss";
}

TEST(CacheSamples, ABadRowIsAMissAndCanBeRemoved) {
  const TemporaryDirectory directory;
  {
    TuningCache cache = TuningCache::open(directory / "t.db");
    cache.record_samples(environment(), "a", std::vector{sample(1), sample(2), sample(3)});
  }
  Database::open(directory / "t.db", Database::Access::kCreate)
      .execute("UPDATE samples SET line = replace(line, '\"duration_ns\":2', '\"duration_ns\":7')");
  TuningCache cache = TuningCache::open(directory / "t.db");
  EXPECT_THAT(cache.samples(environment()).front().samples, ElementsAre(sample(1), sample(3)));
  EXPECT_THAT(cache.verify(), ElementsAre("1 row(s) whose checksum is wrong; they are not used"));
  EXPECT_EQ(cache.prune({.bad_rows = true}), 1);
  EXPECT_THAT(cache.verify(), IsEmpty());
  EXPECT_EQ(cache.prune({.only_build = "another"}), 2);
  EXPECT_THAT(cache.samples(environment()), IsEmpty());
}

TEST(CacheSamples, MergeTakesPartsThatAreNotThere) {
  TuningCache ours = TuningCache::in_memory();
  TuningCache theirs = TuningCache::in_memory();
  ours.record_samples(environment(), "both", std::vector{sample(1)});
  theirs.record_samples(environment(), "both", std::vector{sample(2)});
  theirs.record_samples(environment(), "new", std::vector{sample(3), sample(4)});
  EXPECT_EQ(ours.merge(theirs).num_parts, 1);
  const std::vector<SamplePart> parts = ours.samples(environment());
  ASSERT_EQ(parts.size(), 2U);
  EXPECT_THAT(parts[0].samples, ElementsAre(sample(1)));
  EXPECT_THAT(parts[1].samples, ElementsAre(sample(3), sample(4)));
}

TEST(CacheSamples, RefuseNothing) {
  TuningCache cache = TuningCache::in_memory();
  EXPECT_EQ(message_of<InputError>([&] { cache.record_samples(environment(), "a", {}); }),
            "part 'a' of 0 samples; it has a name, and at least one");
}

}  // namespace
}  // namespace flex::testing
