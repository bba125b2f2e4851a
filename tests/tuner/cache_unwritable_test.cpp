#include <gmock/gmock.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>

#include "tests/base/temporary_directory.h"
#include "tests/tuner/cache_cases.h"
#include "tuner/sqlite.h"

/// Files that take no writes: the run goes on without persistence and says so once.
namespace flex {
namespace {

namespace fs = std::filesystem;
using ::testing::ContainsRegex;
using testing::fill;
using ::testing::HasSubstr;
using testing::kCompleteSearch;
using testing::key_at;
using testing::trial_of;
using testing::two_trials;

TEST(CacheFullDisk, TheRunGoesOnInMemory) {
  const TemporaryDirectory directory;
  const auto path = directory / "tuning.db";
  ::testing::internal::CaptureStderr();
  std::int32_t num_kept = 0;
  {
    TuningCache cache = TuningCache::open(path, {.max_bytes = 100'000});
    std::int32_t i = 0;
    for (; cache.is_persistent() && i < 10'000; ++i) {
      num_kept = i;
      ASSERT_TRUE(cache.record(key_at(i), two_trials(), kCompleteSearch));
    }
    ASSERT_FALSE(cache.is_persistent());
    for (; i < num_kept + 100; ++i) ASSERT_TRUE(cache.record(key_at(i), two_trials(), kCompleteSearch));
    // This run forgets nothing: neither what was kept, nor what met the limit, nor what came after.
    EXPECT_EQ(cache.snapshot(key_at(0).environment).entries().size(), i);
  }
  EXPECT_EQ(::testing::internal::GetCapturedStderr(),
            "flexmoe warning: tuning cache " + path.string() +
                ": database or disk is full; the run goes on, and what it tunes is not kept\n");
  ASSERT_GT(num_kept, 10);
  TuningCache cache = TuningCache::open(path);
  EXPECT_EQ(cache.cases().size(), num_kept) << "what was committed is there, and nothing in part";
  EXPECT_THAT(cache.verify(), ::testing::IsEmpty());
}

// Runs in a child process that exits with 0 if all went well; its stderr is what a user would see.
void write_until_the_limit(const fs::path& path) {
  (void)::signal(SIGXFSZ, SIG_IGN);  // NOLINT(cert-err33-c)
  const rlimit limit = {300'000, 300'000};
  if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) std::_Exit(3);
  TuningCache cache = TuningCache::open(path);
  std::int32_t i = 0;
  for (; i < 2'000; ++i) {
    if (!cache.record(key_at(i), two_trials(), kCompleteSearch)) std::_Exit(4);
  }
  if (cache.is_persistent()) std::_Exit(5);
  if (cache.snapshot(key_at(0).environment).entries().size() != 2'000) std::_Exit(6);
  std::exit(0);
}

TEST(CacheFullDisk, ALimitOnTheSizeOfFilesIsAFullDiskToo) {
  const TemporaryDirectory directory;
  const auto path = directory / "tuning.db";
  EXPECT_EXIT(write_until_the_limit(path), ::testing::ExitedWithCode(0), "what it tunes is not kept");
  TuningCache cache = TuningCache::open(path);
  EXPECT_GT(cache.cases().size(), 10);
  EXPECT_THAT(cache.verify(), ::testing::IsEmpty());
}

constexpr uid_t kNobody = 65534;

// As a user who may read the cache: root would write whatever the permissions say.
void read_and_record(const fs::path& path, std::int32_t num_cases) {
  if (::geteuid() == 0 && (::setgid(kNobody) != 0 || ::setuid(kNobody) != 0)) std::_Exit(3);
  TuningCache cache = TuningCache::open(path);
  if (cache.is_persistent()) std::_Exit(4);
  if (cache.snapshot(key_at(0).environment).entries().size() != static_cast<std::size_t>(num_cases))
    std::_Exit(5);
  for (std::int32_t i = 500; i < 510; ++i) {
    if (!cache.record(key_at(i), two_trials(), kCompleteSearch)) std::_Exit(6);
    if (!cache.decision(key_at(i))) std::_Exit(7);
  }
  std::exit(0);
}

// An expression for a log of exactly one line with these words.
std::string one_line_with(const std::string& words) {
  return "^flexmoe warning: [^\n]*" + words + "[^\n]*\n$";
}

class CacheReadOnly : public ::testing::Test {
 protected:
  CacheReadOnly() {
    fs::permissions(directory_.path(), fs::perms(0777));
    TuningCache cache = TuningCache::open(path_);
    fill(cache, 12);
  }
  ~CacheReadOnly() override { fs::permissions(directory_.path(), fs::perms(0700)); }

  TemporaryDirectory directory_;
  fs::path path_ = directory_ / "tuning.db";
};

TEST_F(CacheReadOnly, AReadOnlyFileIsReadAndTheRunGoesOn) {
  fs::permissions(path_, fs::perms(0444));
  EXPECT_EXIT(read_and_record(path_, 12), ::testing::ExitedWithCode(0),
              one_line_with("it is read-only; the run goes on, and what it tunes is not kept"));
}

TEST_F(CacheReadOnly, AReadOnlyDirectoryToo) {
  fs::permissions(path_, fs::perms(0644));
  fs::permissions(directory_.path(), fs::perms(0555));
  EXPECT_EXIT(read_and_record(path_, 12), ::testing::ExitedWithCode(0),
              one_line_with("what it tunes is not kept"));
  fs::permissions(path_, fs::perms(0666));
  EXPECT_EXIT(read_and_record(path_, 12), ::testing::ExitedWithCode(0),
              one_line_with("what it tunes is not kept"));
}

TEST_F(CacheReadOnly, AnUnreadableFileIsAMiss) {
  fs::permissions(path_, fs::perms(0600));
  if (::geteuid() != 0) fs::permissions(path_, fs::perms(0));
  EXPECT_EXIT(read_and_record(path_, 0), ::testing::ExitedWithCode(0),
              one_line_with("what it tunes is not kept"));
}

TEST_F(CacheReadOnly, AForeignFileThatCannotBeRenamedIsAMiss) {
  const auto foreign = directory_ / "foreign.db";
  Database::open(foreign, Database::Access::kCreate).execute("CREATE TABLE bookmarks (url TEXT)");
  fs::permissions(directory_.path(), fs::perms(0555));
  EXPECT_EXIT(read_and_record(foreign, 0), ::testing::ExitedWithCode(0),
              one_line_with("what it tunes is not kept"));
}

TEST_F(CacheReadOnly, ADirectoryThatCannotBeMadeIsAMiss) {
  fs::permissions(directory_.path(), fs::perms(0555));
  EXPECT_EXIT(read_and_record(directory_ / "new/tuning.db", 0), ::testing::ExitedWithCode(0),
              one_line_with("what it tunes is not kept"));
}

TEST_F(CacheReadOnly, APathThatIsADirectoryIsAMiss) {
  ::testing::internal::CaptureStderr();
  TuningCache cache = TuningCache::open(directory_.path());
  EXPECT_FALSE(cache.is_persistent());
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("unable to open database file; the run goes on"));
}

}  // namespace
}  // namespace flex
