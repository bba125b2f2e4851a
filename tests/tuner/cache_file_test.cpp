#include "tuner/cache_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "base/read_file.h"
#include "tests/base/expect_error.h"
#include "tests/base/temporary_directory.h"
#include "tests/tuner/cache_cases.h"
#include "tuner/cache_schema.h"
#include "tuner/sqlite.h"

namespace flex {
namespace {

namespace fs = std::filesystem;
using testing::fill;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::kCompleteSearch;
using testing::key_at;
using testing::two_trials;

// Sets a variable, or removes it, for one test.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    set(value);
  }
  ~Variable() { set(before_ ? before_->c_str() : nullptr); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  void set(const char* value) const {
    value == nullptr ? ::unsetenv(name_) : ::setenv(name_, value, 1);  // NOLINT(concurrency-mt-unsafe)
  }
  const char* name_;
  std::optional<std::string> before_;
};

TEST(CachePath, FollowsTheEnvironment) {
  const Variable flex("FLEX_CACHE", nullptr);
  const Variable xdg("XDG_CACHE_HOME", "/somewhere");
  const Variable home("HOME", "/anywhere");
  EXPECT_EQ(default_cache_path(), "/somewhere/flexmoe/tuning.db");
  {
    const Variable relative("XDG_CACHE_HOME", "here");
    EXPECT_EQ(default_cache_path(), "/anywhere/.cache/flexmoe/tuning.db");
    const Variable homeless("HOME", "");
    EXPECT_EQ(default_cache_path(), "");
  }
  const Variable own("FLEX_CACHE", "mine.db");
  EXPECT_EQ(default_cache_path(), "mine.db");
}

TEST(CachePath, WithoutOneTheCacheIsInMemoryAndSaysSo) {
  ::testing::internal::CaptureStderr();
  TuningCache cache = TuningCache::open({});
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("neither FLEX_CACHE nor XDG_CACHE_HOME nor HOME says where it is; the run goes on"));
  EXPECT_FALSE(cache.is_persistent());
  EXPECT_TRUE(cache.record(key_at(1), two_trials(), kCompleteSearch));
}

TEST(CacheFile, KnowsNetworkFileSystems) {
  EXPECT_TRUE(is_network_file_system(0x6969));       // NFS
  EXPECT_TRUE(is_network_file_system(0xFF534D42));   // CIFS
  EXPECT_TRUE(is_network_file_system(0x0BD00BD0));   // Lustre
  EXPECT_FALSE(is_network_file_system(0xEF53));      // ext4
  EXPECT_FALSE(is_network_file_system(0x01021994));  // tmpfs
  EXPECT_FALSE(is_on_network("/proc/nowhere/tuning.db"));
}

std::string journal_mode(const fs::path& path) {
  return Database::open(path, Database::Access::kCreate).text("PRAGMA journal_mode");
}

TEST(CacheFile, TheJournalFitsTheFileSystem) {
  const TemporaryDirectory directory;
  (void)TuningCache::open(directory / "local.db", {.on_network = false});
  EXPECT_EQ(journal_mode(directory / "local.db"), "wal");
  (void)TuningCache::open(directory / "remote.db", {.on_network = true});
  EXPECT_EQ(journal_mode(directory / "remote.db"), "delete");
  // A file that moved there changes over.
  (void)TuningCache::open(directory / "local.db", {.on_network = true});
  EXPECT_EQ(journal_mode(directory / "local.db"), "delete");
}

TEST(CacheFile, IsSetAsideWithItsCompanions) {
  const TemporaryDirectory directory;
  for (const char* name : {"t.db", "t.db-wal", "t.db-shm", "t.db-journal", "t.db.bad"}) {
    std::ofstream(directory / name) << name;
  }
  EXPECT_EQ(set_aside(directory / "t.db", "bad"), directory / "t.db.bad.2");
  for (const char* part : {"", "-wal", "-shm", "-journal"}) {
    EXPECT_EQ(read_file(directory / (std::string("t.db.bad.2") + part), 100), std::string("t.db") + part);
    EXPECT_FALSE(fs::exists(directory / (std::string("t.db") + part)));
  }
  EXPECT_EQ(read_file(directory / "t.db.bad", 100), "t.db.bad") << "what was there stays";
}

// A cache of schema 1 with what a cache of this schema at `model` holds.
void write_schema_1(const fs::path& path, const fs::path& model) {
  Database old = Database::open(path, Database::Access::kCreate);
  old.execute(read_file(FLEX_SOURCE_DIR "/tests/tuner/data/schema_1.sql", 1 << 20));
  old.execute("PRAGMA user_version = 1; PRAGMA application_id = " + std::to_string(kCacheApplicationId));
  old.execute("ATTACH '" + model.string() + "' AS model");
  old.execute("INSERT INTO environments SELECT * FROM model.environments");
  old.execute("INSERT INTO layers SELECT * FROM model.layers");
  old.execute("INSERT INTO decisions SELECT * FROM model.decisions");
  const std::string columns =
      "environment, layer, pass, given_degree, capacity_bucket, imbalance_bucket, id, plan, outcome, source, "
      "origin, "
      "num_tokens, capacity, num_warmup, num_repeats, samples_ns, median_ns, spread_ns, measured_at_ns";
  old.execute("INSERT INTO trials SELECT " + columns + ", flex_checksum(" + columns + ") FROM model.trials");
}

TEST(CacheSchema, AnOldFileIsMigratedAndACopyKept) {
  const TemporaryDirectory directory;
  const auto path = directory / "tuning.db";
  {
    TuningCache model = TuningCache::open(directory / "model.db");
    fill(model, 5);
  }
  write_schema_1(path, directory / "model.db");
  Database::open(path, Database::Access::kCreate)
      .execute("UPDATE trials SET median_ns = 7 WHERE imbalance_bucket = 1 AND plan LIKE 'r1%'");
  ::testing::internal::CaptureStderr();
  TuningCache cache = TuningCache::open(path);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(),
            "flexmoe warning: tuning cache " + path.string() +
                ": brought to schema 3; the file as it was is kept as " + path.string() + ".schema1\n");
  EXPECT_EQ(cache.snapshot(key_at(0).environment).entries().size(), 5);
  std::vector<Trial> expected = two_trials();
  for (Trial& trial : expected) trial.device_clock_MHz = 0;  // schema 1 does not say
  EXPECT_THAT(cache.trials(key_at(0)), ::testing::UnorderedElementsAreArray(expected));
  EXPECT_EQ(cache.trials(key_at(0, 1)).size(), 1) << "a bad row stays bad";
  EXPECT_EQ(cache.record(key_at(3), two_trials()), 2);

  Database copy = Database::open(path.string() + ".schema1", Database::Access::kImmutable);
  EXPECT_EQ(copy.integer("PRAGMA user_version"), 1);
  EXPECT_EQ(copy.integer("SELECT count(*) FROM trials"), 10);
  EXPECT_EQ(copy.integrity(), "ok");
  EXPECT_EQ(std::distance(fs::directory_iterator(directory.path()), {}), 5)
      << "model, cache, copy, -wal, -shm";
}

TEST(CacheSchema, AMigratedFileHasTheTablesOfAFreshOne) {
  const TemporaryDirectory directory;
  (void)TuningCache::open(directory / "fresh.db");
  write_schema_1(directory / "old.db", directory / "fresh.db");
  ::testing::internal::CaptureStderr();
  (void)TuningCache::open(directory / "old.db");
  (void)::testing::internal::GetCapturedStderr();
  const auto describe = [](const fs::path& path) {
    std::string text;
    const Database database = Database::open(path, Database::Access::kCreate);
    for (const char* table : {"environments", "layers", "trials", "decisions", "samples"}) {
      database.prepare("SELECT name, type, \"notnull\", pk FROM pragma_table_info(?1)")
          .bind(std::string_view(table))
          .each([&](const Statement& row) {
            for (int column = 0; column < 4; ++column) text.append(row.text(column)).append(" ");
          });
    }
    EXPECT_TRUE(has_current_tables(database));
    return text;
  };
  EXPECT_EQ(describe(directory / "old.db"), describe(directory / "fresh.db"));
}

TEST(CacheSchema, ReadingAnOldFileLeavesItAlone) {
  const TemporaryDirectory directory;
  {
    TuningCache model = TuningCache::open(directory / "model.db");
    fill(model, 2);
  }
  write_schema_1(directory / "old.db", directory / "model.db");
  const std::string before = read_file(directory / "old.db", 1 << 20);
  TuningCache cache = TuningCache::open(directory / "old.db", {.mode = CacheMode::kRead});
  EXPECT_EQ(cache.cases().size(), 2);
  EXPECT_EQ(read_file(directory / "old.db", 1 << 20), before);
}

// Opens a file that is not fit to be the cache; the words of its one log line.
std::string opened_words(const fs::path& path, const fs::path& aside) {
  const std::string content = read_file(path, 1 << 20);
  ::testing::internal::CaptureStderr();
  {
    TuningCache cache = TuningCache::open(path);
    EXPECT_TRUE(cache.is_persistent());
    EXPECT_THAT(cache.cases(), IsEmpty());
    EXPECT_TRUE(cache.record(key_at(1), two_trials(), kCompleteSearch));
  }
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::ranges::count(log, '\n'), 1) << log;
  EXPECT_THAT(log, HasSubstr("it is kept as " + aside.string() + ", and a fresh one is begun"));
  EXPECT_EQ(read_file(aside, 1 << 20), content) << "nothing is lost";
  TuningCache again = TuningCache::open(path);
  EXPECT_TRUE(again.decision(key_at(1)));
  EXPECT_THAT(again.verify(), IsEmpty());
  return log;
}

TEST(CacheSchema, ANewerFileIsSetAside) {
  const TemporaryDirectory directory;
  const auto path = directory / "tuning.db";
  (void)TuningCache::open(path);
  Database::open(path, Database::Access::kCreate).execute("PRAGMA user_version = 4");
  EXPECT_THAT(opened_words(path, path.string() + ".schema4"),
              HasSubstr("it has schema 4, and this Flex knows schemas up to 3"));
}

TEST(CacheSchema, AForeignFileIsSetAside) {
  const TemporaryDirectory directory;
  const auto path = directory / "tuning.db";
  Database::open(path, Database::Access::kCreate).execute("CREATE TABLE bookmarks (url TEXT)");
  EXPECT_THAT(opened_words(path, path.string() + ".foreign"),
              HasSubstr("it is a database of another program"));
  Database::open(path.string() + ".foreign", Database::Access::kCreate)
      .execute("INSERT INTO bookmarks VALUES ('x')");
}

TEST(CacheSchema, AFileWithOtherTablesIsSetAside) {
  const TemporaryDirectory directory;
  const auto path = directory / "tuning.db";
  (void)TuningCache::open(path);
  Database::open(path, Database::Access::kCreate).execute("ALTER TABLE decisions ADD COLUMN mood TEXT");
  EXPECT_THAT(opened_words(path, path.string() + ".damaged"),
              HasSubstr("it is damaged (its tables are not those of its schema)"));
}

TEST(CacheSchema, AFileThatIsNoDatabaseIsSetAside) {
  const TemporaryDirectory directory;
  const auto path = directory / "tuning.db";
  std::ofstream(path) << std::string(5000, 'x');
  EXPECT_THAT(opened_words(path, path.string() + ".damaged"),
              HasSubstr("it is damaged (file is not a database)"));
}

TEST(CacheSchema, AnEmptyFileIsFilled) {
  const TemporaryDirectory directory;
  const auto path = directory / "tuning.db";
  std::ofstream(path).flush();
  ::testing::internal::CaptureStderr();
  TuningCache cache = TuningCache::open(path);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_TRUE(cache.is_persistent());
}

TEST(CacheRead, SaysWhatIsWrongAndTouchesNothing) {
  const TemporaryDirectory directory;
  const auto path = directory / "tuning.db";
  const auto message = [&] {
    return message_of<Error>([&] { (void)TuningCache::open(path, {.mode = CacheMode::kRead}); });
  };
  EXPECT_EQ(message(), "cannot read the tuning cache " + path.string() + ": No such file or directory");
  std::ofstream(path) << std::string(5000, 'x');
  EXPECT_EQ(message(), path.string() + ": it is damaged (file is not a database)");
  fs::remove(path);
  Database::open(path, Database::Access::kCreate).execute("CREATE TABLE bookmarks (url TEXT)");
  EXPECT_EQ(message(), path.string() + ": it is a database of another program");
  EXPECT_EQ(std::distance(fs::directory_iterator(directory.path()), {}), 1);
  fs::remove(path);
  fs::create_directory(path);
  EXPECT_EQ(message(), path.string() + ": is no file");
}

}  // namespace
}  // namespace flex
