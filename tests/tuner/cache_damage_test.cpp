#include <fmt/format.h>
#include <gmock/gmock.h>

#include <fstream>

#include "base/philox.h"
#include "base/read_file.h"
#include "tests/base/temporary_directory.h"
#include "tests/tuner/cache_cases.h"
#include "tuner/sqlite.h"

/// Files that something else than Flex has changed: whatever happened, no wrong answer and no lost file.
namespace flex {
namespace {

namespace fs = std::filesystem;
using testing::fill;
using ::testing::IsEmpty;
using testing::kCompleteSearch;
using testing::key_at;
using testing::two_trials;

constexpr std::int32_t kCases = 40;

std::string good_cache() {
  const TemporaryDirectory directory;
  {
    TuningCache cache = TuningCache::open(directory / "tuning.db");
    fill(cache, kCases);
  }
  return read_file(directory / "tuning.db", 1 << 20);
}

// Opens a cache that may be damaged, reads and writes it, and looks that the rules hold.
void expect_rules(const fs::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
  ::testing::internal::CaptureStderr();
  {
    TuningCache cache = TuningCache::open(path);
    const CacheSnapshot snapshot = cache.snapshot(key_at(0).environment);
    EXPECT_LE(snapshot.entries().size(), kCases);
    for (const CacheSnapshot::Entry& entry : snapshot.entries()) {
      EXPECT_EQ(entry.layer, layer_id(key_at(0).layer));
      EXPECT_EQ(entry.plan, parse_plan("r2 d4 2dh")) << "a wrong answer";
      EXPECT_EQ(entry.median_ns, 200);
    }
    for (const Trial& trial : cache.trials(key_at(3, 1)))
      EXPECT_THAT(two_trials(), ::testing::Contains(trial));
    const auto decision = cache.record(key_at(77), two_trials(), kCompleteSearch);
    ASSERT_TRUE(decision);
    EXPECT_EQ(decision->plan, parse_plan("r2 d4 2dh"));
    EXPECT_EQ(cache.decision(key_at(77)), decision);
  }
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_LE(std::ranges::count(log, '\n'), 1) << log;
  EXPECT_EQ(Database::open(path, Database::Access::kCreate).integrity(), "ok") << log;
}

// After a file was set aside: it has all that it had.
void expect_kept(const fs::path& directory, const std::string& content) {
  int num_aside = 0;
  for (const auto& entry : fs::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("tuning.db.") || name.ends_with("-shm") || name.ends_with("-wal")) continue;
    ++num_aside;
    EXPECT_EQ(read_file(entry.path(), 1 << 20).size(), content.size());
  }
  EXPECT_LE(num_aside, 1);
}

TEST(CacheDamage, FlippedBits) {
  const std::string good = good_cache();
  PhiloxStream random(11);
  for (int round = 0; round < 300 && !HasFailure(); ++round) {
    std::string content = good;
    // Every second flip in the first page, where the header and the schema are.
    const auto bytes = static_cast<std::int64_t>(round % 2 == 0 ? content.size() : std::size_t{4096});
    const auto at = static_cast<std::size_t>(random.below(bytes));
    content[at] = static_cast<char>(content[at] ^ (1 << random.below(8)));
    SCOPED_TRACE(fmt::format("round {}, byte {}", round, at));
    const TemporaryDirectory directory;
    expect_rules(directory / "tuning.db", content);
    expect_kept(directory.path(), content);
  }
}

TEST(CacheDamage, OverwrittenBlocks) {
  const std::string good = good_cache();
  PhiloxStream random(12);
  for (int round = 0; round < 40 && !HasFailure(); ++round) {
    std::string content = good;
    const auto at = static_cast<std::size_t>(random.below(static_cast<std::int64_t>(content.size() - 512)));
    content.replace(at, 512, std::string(512, round % 2 == 0 ? '\0' : '\xFF'));
    SCOPED_TRACE(fmt::format("round {}, from byte {}", round, at));
    const TemporaryDirectory directory;
    expect_rules(directory / "tuning.db", content);
    expect_kept(directory.path(), content);
  }
}

TEST(CacheDamage, TruncatedFiles) {
  const std::string good = good_cache();
  PhiloxStream random(13);
  for (int round = 0; round < 40 && !HasFailure(); ++round) {
    const auto bytes = static_cast<std::size_t>(random.below(static_cast<std::int64_t>(good.size())));
    SCOPED_TRACE(fmt::format("round {}, {} bytes", round, bytes));
    const TemporaryDirectory directory;
    expect_rules(directory / "tuning.db", good.substr(0, bytes));
    expect_kept(directory.path(), good.substr(0, bytes));
  }
}

// Too large to be checked as a whole at opening: the damage shows when it is read.
TEST(CacheDamage, DamageThatShowsLaterSetsTheFileAside) {
  const TemporaryDirectory directory;
  const auto path = directory / "tuning.db";
  {
    TuningCache cache = TuningCache::open(path);
    std::vector<Trial> trials = two_trials();
    for (int i = 0; i < 300; ++i) {
      trials.push_back(testing::trial_of("r0", std::vector<std::int64_t>(2000, 500 + i), 10 + i));
    }
    cache.record(key_at(0), trials, kCompleteSearch);
  }
  std::string content = read_file(path, 1 << 28);
  ASSERT_GT(content.size(), std::size_t{4} << 20);
  const std::string before = content;
  // All pages but the first few, which hold the schema and the small tables.
  for (std::size_t at = 16 * 4096; at < content.size(); at += 4096)
    content.replace(at, 64, std::string(64, '\x7F'));
  std::ofstream(path, std::ios::binary) << content;
  ::testing::internal::CaptureStderr();
  TuningCache cache = TuningCache::open(path);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "") << "not seen yet";
  ::testing::internal::CaptureStderr();
  EXPECT_THAT(cache.trials(key_at(0)), IsEmpty());
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              ::testing::HasSubstr("tuning.db.damaged, and a fresh one"));
  EXPECT_TRUE(cache.is_persistent());
  EXPECT_TRUE(cache.record(key_at(0), two_trials(), kCompleteSearch));
  EXPECT_EQ(read_file(path.string() + ".damaged", 1 << 28).size(), before.size());
}

}  // namespace
}  // namespace flex
