#include <gmock/gmock.h>
#include <sqlite3.h>

#include "tests/base/expect_error.h"
#include "tests/base/temporary_directory.h"
#include "tuner/checksum.h"
#include "tuner/sqlite.h"

namespace flex {
namespace {

using ::testing::HasSubstr;

TEST(Sqlite, BindsAndReadsEveryType) {
  Database database = Database::in_memory();
  database.execute("CREATE TABLE t (i INTEGER, s TEXT, b BLOB) STRICT");
  const std::string bytes("\0\1\2", 3);
  database.prepare("INSERT INTO t VALUES (?1, ?2, ?3)")
      .bind(std::int64_t{-5}, std::string_view("text"), std::as_bytes(std::span(bytes)))
      .run();
  database.prepare("INSERT INTO t VALUES (?1, ?2, ?3)")
      .bind(std::int64_t{0}, std::string_view(), std::span<const std::byte>())
      .run();
  EXPECT_EQ(database.num_changes(), 1);
  int row = 0;
  database.prepare("SELECT i, s, b FROM t ORDER BY rowid").each([&](const Statement& at) {
    EXPECT_EQ(at.integer(0), row == 0 ? -5 : 0);
    EXPECT_EQ(at.text(1), row == 0 ? "text" : "");
    EXPECT_EQ(at.bytes(2).size(), row == 0 ? 3 : 0);
    ++row;
  });
  EXPECT_EQ(row, 2);
  EXPECT_EQ(database.integer("SELECT count(*) FROM t WHERE s IS NULL OR b IS NULL"), 0);
}

TEST(Sqlite, ChecksumInSqlIsThatOfTheRow) {
  Database database = Database::in_memory();
  std::array<std::int64_t, 4> integers;
  Statement statement =
      database.prepare("SELECT 7, 'seven', x'0077', NULL, flex_checksum(7, 'seven', x'0077', NULL)");
  ASSERT_TRUE(statement.step());
  const std::uint64_t checksum = statement.checksum(4, integers);
  EXPECT_EQ(checksum, static_cast<std::uint64_t>(statement.integer(4)));
  EXPECT_THAT(integers, ::testing::ElementsAre(7, 0, 0, 0));
  // Type, length and order count.
  for (const char* other : {"7, 'seven', x'0077'", "7, 'seven', x'7700', NULL", "'7', 'seven', x'0077', NULL",
                            "'seven', 7, x'0077', NULL", "7, 'seven' || x'00', x'77', NULL"}) {
    EXPECT_NE(
        static_cast<std::uint64_t>(database.integer(std::string("SELECT flex_checksum(") + other + ")")),
        checksum)
        << other;
  }
}

TEST(Sqlite, ErrorsCarryTheirCode) {
  Database database = Database::in_memory();
  EXPECT_THAT(message_of<SqliteError>([&] { (void)database.integer("SELECT x FROM nowhere"); }),
              "no such table: nowhere in 'SELECT x FROM nowhere'");
  database.execute("CREATE TABLE t (i INTEGER NOT NULL) STRICT");
  try {
    database.execute("INSERT INTO t VALUES ('text')");
    FAIL() << "a STRICT table took text for an integer";
  } catch (const SqliteError& error) {
    EXPECT_EQ(error.code(), SQLITE_CONSTRAINT);
    EXPECT_FALSE(error.is_damage());
  }
}

TEST(Sqlite, ATransactionIsRolledBackUnlessCommitted) {
  Database database = Database::in_memory();
  database.execute("CREATE TABLE t (i INTEGER) STRICT");
  {
    const Transaction transaction(database);
    database.execute("INSERT INTO t VALUES (1)");
  }
  EXPECT_EQ(database.integer("SELECT count(*) FROM t"), 0);
  {
    Transaction transaction(database);
    database.execute("INSERT INTO t VALUES (1)");
    transaction.commit();
  }
  EXPECT_EQ(database.integer("SELECT count(*) FROM t"), 1);
}

TEST(Sqlite, OpensPathsThatLookLikeUris) {
  const TemporaryDirectory directory;
  const auto path = directory / "a?b#c%41d.db";
  Database::open(path, Database::Access::kCreate).execute("CREATE TABLE t (i INTEGER) STRICT");
  EXPECT_TRUE(std::filesystem::exists(path));
  EXPECT_EQ(Database::open(path, Database::Access::kImmutable).integer("SELECT count(*) FROM sqlite_schema"),
            1);
  Database copy = Database::in_memory();
  Database::open(path, Database::Access::kRead).copy_into(copy);
  EXPECT_EQ(copy.integer("SELECT count(*) FROM sqlite_schema"), 1);
}

TEST(Sqlite, AWriterIsWaitedForUntilTheTimeoutIsOver) {
  const TemporaryDirectory directory;
  Database first = Database::open(directory / "x.db", Database::Access::kCreate);
  Database second = Database::open(directory / "x.db", Database::Access::kCreate);
  second.set_busy_timeout_ms(20);
  const Transaction transaction(first);
  try {
    const Transaction other(second);
    FAIL() << "two writers at once";
  } catch (const SqliteError& error) {
    EXPECT_EQ(error.code(), SQLITE_BUSY);
  }
}

}  // namespace
}  // namespace flex
