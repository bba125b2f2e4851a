#include "tuner/cache_open.h"

#include <sqlite3.h>

#include <optional>

#include "base/file_error.h"
#include "base/log.h"
#include "base/require.h"
#include "tuner/cache_file.h"
#include "tuner/cache_schema.h"

namespace flex {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kWholeCheckMaxBytes = std::int64_t{4} << 20;

std::int64_t size_of(const fs::path& file) {
  std::error_code error;
  const auto size = fs::file_size(file, error);
  return error ? 0 : static_cast<std::int64_t>(size);
}

/// Why a file cannot serve as the cache.
struct Unfit {
  std::string suffix;  ///< of the name under which it is kept
  std::string reason;
};

std::optional<Unfit> judge(const Database& database) {
  switch (schema_state(database)) {
    case SchemaState::kNewer: {
      const std::int64_t version = database.integer("PRAGMA user_version");
      return Unfit{
          fmt::format("schema{}", version),
          fmt::format("it has schema {}, and this Flex knows schemas up to {}", version, kSchemaVersion)};
    }
    case SchemaState::kForeign:
      return Unfit{"foreign", "it is a database of another program"};
    case SchemaState::kEmpty:
    case SchemaState::kCurrent:
    case SchemaState::kOlder:
      break;
  }
  return std::nullopt;
}

constexpr const char* kOtherTables = "its tables are not those of its schema";

Unfit damaged(const std::string& reason) { return {"damaged", fmt::format("it is damaged ({})", reason)}; }

void configure(Database& database, const fs::path& path, const CacheOptions& options) {
  database.execute("PRAGMA foreign_keys = ON");
  database.execute("PRAGMA synchronous = FULL");  // a commit survives a loss of power, too
  const bool on_network = options.on_network.value_or(is_on_network(path));
  try {
    database.execute(on_network ? "PRAGMA journal_mode = DELETE" : "PRAGMA journal_mode = WAL");
  } catch (const SqliteError& error) {
    if (error.code() != SQLITE_BUSY) throw;  // others use the file, in the mode that it has
  }
  if (options.max_bytes > 0) {
    const std::int64_t page_bytes = database.integer("PRAGMA page_size");
    database.execute(
        fmt::format("PRAGMA max_page_count = {}", std::max<std::int64_t>(1, options.max_bytes / page_bytes)));
  }
}

// The copy appears under its name when it is whole.
void keep_copy(const Database& database, const fs::path& path) {
  const fs::path name = unused_name(path, fmt::format("schema{}", database.integer("PRAGMA user_version")));
  fs::path part = name;
  part += ".part";
  std::error_code error;
  fs::remove(part, error);  // of a process that died
  {
    Database copy = Database::open(part, Database::Access::kCreate);
    database.copy_into(copy);
  }
  fs::rename(part, name, error);
  if (error) fail_file("rename", part, error.value());
  log_warning("tuning cache {}: brought to schema {}; the file as it was is kept as {}", path.string(),
              kSchemaVersion, name.string());
}

// One process at a time makes the tables, or migrates them; the others then find them done.
void make_current(Database& database, const fs::path& path) {
  if (schema_state(database) == SchemaState::kEmpty) create_schema(database);
  if (schema_state(database) == SchemaState::kOlder) {
    keep_copy(database, path);
    migrate_schema(database);
  }
}

enum class WholeCheck : std::uint8_t { kIfSmall, kAlways };

struct Attempt {
  std::optional<Database> database;
  Unfit unfit;  ///< if there is no database
};

// @throws SqliteError for all but damage: no permission, a full disk, a lock that is never given back.
Attempt try_open(const fs::path& path, const CacheOptions& options, WholeCheck whole_check,
                 const std::optional<DirectoryLock>& held) {
  try {
    Database database = Database::open(path, Database::Access::kCreate);
    database.set_busy_timeout_ms(options.busy_timeout_ms);
    if (auto unfit = judge(database)) return {std::nullopt, *std::move(unfit)};
    if (database.is_read_only()) throw SqliteError(SQLITE_READONLY, "it is read-only");
    std::optional<DirectoryLock> lock;
    // A second lock of one's own would never be granted.
    if (schema_state(database) != SchemaState::kCurrent && !held) lock.emplace(path);
    make_current(database, path);
    configure(database, path, options);
    if (!has_current_tables(database)) return {std::nullopt, damaged(kOtherTables)};
    if (whole_check == WholeCheck::kAlways || size_of(path) <= kWholeCheckMaxBytes) {
      if (const std::string found = database.integrity(); found != "ok")
        return {std::nullopt, damaged(found)};
    }
    return {std::move(database), {}};
  } catch (const SqliteError& error) {
    if (!error.is_damage()) throw;
    return {std::nullopt, damaged(error.what())};
  }
}

Database open_or_replace(const fs::path& path, const CacheOptions& options, WholeCheck whole_check) {
  std::optional<DirectoryLock> lock;
  Attempt first = try_open(path, options, whole_check, lock);
  if (first.database) return *std::move(first.database);
  lock.emplace(path);
  Attempt second = try_open(path, options, whole_check, lock);  // another process may have replaced it
  if (second.database) return *std::move(second.database);
  const fs::path name = set_aside(path, second.unfit.suffix);
  log_warning("tuning cache {}: {}; it is kept as {}, and a fresh one is begun", path.string(),
              second.unfit.reason, name.string());
  Attempt third = try_open(path, options, whole_check, lock);
  if (!third.database) throw SqliteError(SQLITE_CORRUPT, third.unfit.reason);
  return *std::move(third.database);
}

Database empty_store() {
  Database memory = Database::in_memory();
  create_schema(memory);
  return memory;
}

// The content as it is, of whatever schema. @throws SqliteError
Database raw_copy(const fs::path& path) {
  Database memory = Database::in_memory();
  try {
    Database::open(path, Database::Access::kRead).copy_into(memory);
  } catch (const SqliteError&) {
    // A WAL in a directory that takes no files cannot be read; without one, its absence need not be noted.
    fs::path wal = path;
    wal += "-wal";
    if (size_of(wal) > 0) throw;
    memory = Database::in_memory();
    Database::open(path, Database::Access::kImmutable).copy_into(memory);
  }
  return memory;
}

// What open() returns or, if the file cannot be written, a copy of it.
template <class Open>
OpenedCache or_in_memory(const fs::path& path, Open&& open) {
  try {
    return {open()};
  } catch (const SqliteError& error) {
    return {copy_of_cache(path), error.what()};
  } catch (const FileError& error) {
    return {copy_of_cache(path), error.what()};
  } catch (const fs::filesystem_error& error) {
    return {copy_of_cache(path), error.code().message()};
  }
}

}  // namespace

OpenedCache open_cache(const fs::path& path, const CacheOptions& options) {
  if (path.empty()) return {empty_store(), "neither FLEX_CACHE nor XDG_CACHE_HOME nor HOME says where it is"};
  return or_in_memory(path, [&] {
    if (path.has_parent_path()) fs::create_directories(path.parent_path());
    return open_or_replace(path, options, WholeCheck::kIfSmall);
  });
}

OpenedCache replace_damaged_cache(const fs::path& path, const CacheOptions& options) {
  return or_in_memory(path, [&] { return open_or_replace(path, options, WholeCheck::kAlways); });
}

Database copy_of_cache(const fs::path& path) {
  if (size_of(path) == 0) return empty_store();
  try {
    Database memory = raw_copy(path);
    if (judge(memory) || memory.integrity() != "ok") return empty_store();
    if (schema_state(memory) == SchemaState::kEmpty) create_schema(memory);
    migrate_schema(memory);
    if (!has_current_tables(memory)) return empty_store();
    return memory;
  } catch (const SqliteError&) {
    return empty_store();  // the caller says that nothing is kept
  }
}

Database read_cache(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error)) {
    fail_file("read the tuning cache", path, error ? error.value() : ENOENT);
  }
  require(fs::is_regular_file(path, error), "{}: is no file", path.string());
  try {
    Database memory = raw_copy(path);
    if (const auto unfit = judge(memory)) fail("{}: {}", path.string(), unfit->reason);
    const std::string found = memory.integrity();
    require(found == "ok", "{}: {}", path.string(), damaged(found).reason);
    if (schema_state(memory) == SchemaState::kEmpty) create_schema(memory);
    migrate_schema(memory);
    require(has_current_tables(memory), "{}: {}", path.string(), damaged(kOtherTables).reason);
    return memory;
  } catch (const SqliteError& found) {
    if (found.is_damage()) fail("{}: {}", path.string(), damaged(found.what()).reason);
    fail<FileError>("cannot read the tuning cache {}: {}", path.string(), found.what());
  }
}

}  // namespace flex
