#include <gmock/gmock.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "base/philox.h"
#include "tests/base/temporary_directory.h"
#include "tests/tuner/cache_writers.h"
#include "tuner/sqlite.h"

/// Several processes, and processes that die.
namespace flex {
namespace {

namespace fs = std::filesystem;
using testing::expect_writers_agree;
using ::testing::IsEmpty;
using testing::numbers_in;
using testing::Writer;

TEST(CacheProcesses, KilledAtAnyMomentTheyLoseNothingCommitted) {
  constexpr int kRounds = 100;
  constexpr std::int64_t kMaxLifetimeUs = 25'000;
  const TemporaryDirectory directory;
  const auto path = directory / "tuning.db";
  std::set<std::int64_t> committed;
  PhiloxStream random(5);
  for (int round = 0; round < kRounds && !HasFailure(); ++round) {
    const Writer writer(path, directory / "log", std::int64_t{round} * 100'000, 60);
    std::this_thread::sleep_for(std::chrono::microseconds(random.below(kMaxLifetimeUs)));
    writer.kill();
    EXPECT_TRUE(WIFSIGNALED(writer.wait()));
    for (const std::int64_t number : writer.committed()) committed.insert(number);

    TuningCache cache = TuningCache::open(path);
    ASSERT_TRUE(cache.is_persistent());
    const std::set<std::int64_t> numbers = numbers_in(cache);
    EXPECT_TRUE(std::ranges::includes(numbers, committed)) << "round " << round;
    // A trial that was committed and not yet reported may be there besides: one a round.
    EXPECT_LE(numbers.size(), committed.size() + static_cast<std::size_t>(round) + 1);
    EXPECT_THAT(cache.verify(), IsEmpty());
  }
  EXPECT_EQ(read_file(directory / "log", 1 << 20), "") << "no process had anything to say";
  EXPECT_GT(committed.size(), 20) << "the processes died before they wrote";
  EXPECT_EQ(Database::open(path, Database::Access::kCreate).integrity(), "ok");
  EXPECT_FALSE(fs::exists(path.string() + ".damaged"));
}

TEST(CacheProcesses, EightWriteAtOnce) {
  const TemporaryDirectory directory;
  expect_writers_agree(directory.path(), 8, 1.5);
}

// One of them sets it aside; the others take the fresh one.
TEST(CacheProcesses, EightOpenADamagedFileAtOnce) {
  for (int round = 0; round < 5; ++round) {
    const TemporaryDirectory directory;
    const auto path = directory / "tuning.db";
    std::ofstream(path) << std::string(9000, 'x');
    std::vector<std::unique_ptr<Writer>> writers;
    for (int i = 0; i < 8; ++i) {
      writers.push_back(std::make_unique<Writer>(path, directory / "log", i * 1000, 0.1));
    }
    std::set<std::int64_t> expected;
    for (const auto& writer : writers) {
      EXPECT_EQ(writer->wait(), 0);
      for (const std::int64_t number : writer->committed()) expected.insert(number);
    }
    TuningCache cache = TuningCache::open(path);
    EXPECT_EQ(numbers_in(cache), expected);
    EXPECT_TRUE(fs::exists(path.string() + ".damaged"));
    EXPECT_FALSE(fs::exists(path.string() + ".damaged.2"));
    EXPECT_EQ(std::ranges::count(read_file(directory / "log", 1 << 20), '\n'), 1);
  }
}

}  // namespace
}  // namespace flex
