#include "tuner/sqlite.h"

#include <sqlite3.h>

#include <algorithm>
#include <thread>

#include "base/log.h"
#include "base/philox.h"
#include "base/require.h"
#include "tuner/checksum.h"

namespace flex {
namespace {

constexpr int kPrimaryCode = 0xFF;  // the bits of a code that extended ones add to

// A damaged schema is quoted by SQLite as it is, over many lines.
std::string one_line(std::string_view reason) {
  constexpr std::size_t kMaxBytes = 200;
  std::string line(reason.substr(0, std::min(reason.find('\n'), kMaxBytes)));
  std::ranges::replace_if(
      line, [](char c) { return c < ' ' || c > '~'; }, '?');
  return line.size() < reason.size() ? line + "..." : line;
}

// `sql` is named where it is to blame: elsewhere the file is, and the caller knows which.
[[noreturn]] void fail_sqlite(sqlite3* database, int code, std::string_view sql = {}) {
  const int primary = code & kPrimaryCode;
  const char* reason = database == nullptr ? sqlite3_errstr(code) : sqlite3_errmsg(database);
  const bool names_sql = !sql.empty() && (primary == SQLITE_ERROR || primary == SQLITE_MISUSE);
  throw SqliteError(primary, names_sql ? fmt::format("{} in '{}'", one_line(reason), sql) : one_line(reason));
}

// flex_checksum(value, ...): what rows carry. Its argument types are those of Statement::checksum().
void sql_checksum(sqlite3_context* context, int count, sqlite3_value** values) {
  Checksum checksum;
  for (int i = 0; i < count; ++i) {
    sqlite3_value* value = values[i];
    switch (sqlite3_value_type(value)) {
      case SQLITE_INTEGER:
        checksum.add(std::int64_t{sqlite3_value_int64(value)});
        break;
      case SQLITE_TEXT: {
        const auto* text = reinterpret_cast<const char*>(sqlite3_value_text(value));
        checksum.add(std::string_view(text, static_cast<std::size_t>(sqlite3_value_bytes(value))));
        break;
      }
      case SQLITE_BLOB: {
        const auto* bytes = static_cast<const std::byte*>(sqlite3_value_blob(value));
        checksum.add(std::span(bytes, static_cast<std::size_t>(sqlite3_value_bytes(value))));
        break;
      }
      default:
        checksum.add_other();
    }
  }
  sqlite3_result_int64(context, static_cast<std::int64_t>(checksum.value()));
}

// A file's path in a URI: what would end the path or start an escape is escaped.
std::string uri_of(const std::filesystem::path& path, std::string_view query) {
  std::string uri = "file:";
  for (const char c : path.string()) {
    if (c == '%' || c == '?' || c == '#') {
      uri += fmt::format("%{:02x}", static_cast<unsigned>(c));
    } else {
      uri += c;
    }
  }
  return uri.append(query);
}

}  // namespace

bool SqliteError::is_damage() const {
  return code_ == SQLITE_CORRUPT || code_ == SQLITE_NOTADB || code_ == SQLITE_ERROR;
}

void Statement::Finalize::operator()(sqlite3_stmt* statement) const {
  (void)sqlite3_finalize(statement);  // repeats the error of the last step, which was thrown
}

Statement::Statement(sqlite3* database, std::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(database, sql.data(), static_cast<int>(sql.size()),
                                      SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  statement_.reset(statement);
  if (code != SQLITE_OK) fail_sqlite(database, code, sql);
}

void Statement::check(int code) const {
  if (code != SQLITE_OK) {
    fail_sqlite(sqlite3_db_handle(statement_.get()), code, sqlite3_sql(statement_.get()));
  }
}

void Statement::bind_one(int index, std::int64_t value) {
  check(sqlite3_bind_int64(statement_.get(), index, value));
}

void Statement::bind_one(int index, std::string_view text) {
  const char* data = text.data() == nullptr ? "" : text.data();  // a null pointer would bind NULL
  check(sqlite3_bind_text(statement_.get(), index, data, static_cast<int>(text.size()), SQLITE_STATIC));
}

void Statement::bind_one(int index, std::span<const std::byte> bytes) {
  const void* data = bytes.data() == nullptr ? static_cast<const void*>("") : bytes.data();
  check(sqlite3_bind_blob(statement_.get(), index, data, static_cast<int>(bytes.size()), SQLITE_STATIC));
}

void Statement::run() {
  const Reset reset(*this);
  while (step()) {
  }
}

bool Statement::step() {
  const int code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) check(code);
  return false;
}

void Statement::reset() noexcept {
  (void)sqlite3_reset(statement_.get());  // repeats the error of the last step, which was thrown
}

std::int64_t Statement::integer(int column) const { return sqlite3_column_int64(statement_.get(), column); }

std::string_view Statement::text(int column) const {
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement_.get(), column));
  if (text == nullptr) return {};
  return {text, static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column))};
}

std::span<const std::byte> Statement::bytes(int column) const {
  const auto* bytes = static_cast<const std::byte*>(sqlite3_column_blob(statement_.get(), column));
  return {bytes, static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column))};
}

std::uint64_t Statement::checksum(int count, std::span<std::int64_t> integers) const {
  Checksum checksum;
  for (int column = 0; column < count; ++column) {
    std::int64_t value = 0;
    switch (sqlite3_column_type(statement_.get(), column)) {
      case SQLITE_INTEGER:
        value = integer(column);
        checksum.add(value);
        break;
      case SQLITE_TEXT:
        checksum.add(text(column));
        break;
      case SQLITE_BLOB:
        checksum.add(bytes(column));
        break;
      default:
        checksum.add_other();
    }
    if (!integers.empty()) integers[static_cast<std::size_t>(column)] = value;
  }
  return checksum.value();
}

void Database::Close::operator()(sqlite3* database) const {
  const int code = sqlite3_close_v2(database);
  if (code != SQLITE_OK) log_error("SQLite does not close a connection: {}", sqlite3_errstr(code));
}

Database::Database(const std::string& uri, int flags) {
  sqlite3* handle = nullptr;
  const int code =
      sqlite3_open_v2(uri.c_str(), &handle, flags | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, nullptr);
  handle_.reset(handle);  // there is one even after an error, with the message
  if (code != SQLITE_OK) fail_sqlite(handle, code);
  const int registered = sqlite3_create_function_v2(handle, "flex_checksum", -1,
                                                    SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS,
                                                    nullptr, sql_checksum, nullptr, nullptr, nullptr);
  if (registered != SQLITE_OK) fail_sqlite(handle, registered);
}

Database Database::open(const std::filesystem::path& path, Access access) {
  switch (access) {
    case Access::kCreate:
      return Database(uri_of(path, ""), SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    case Access::kRead:
      return Database(uri_of(path, ""), SQLITE_OPEN_READONLY);
    case Access::kImmutable:
      break;
  }
  return Database(uri_of(path, "?immutable=1"), SQLITE_OPEN_READONLY);
}

Database Database::in_memory() { return Database(":memory:", SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE); }

void Database::execute(const std::string& sql) {
  const int code = sqlite3_exec(handle_.get(), sql.c_str(), nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) fail_sqlite(handle_.get(), code);
}

std::int64_t Database::integer(std::string_view sql) const {
  Statement statement = prepare(sql);
  return statement.step() ? statement.integer(0) : 0;
}

std::string Database::text(std::string_view sql) const {
  Statement statement = prepare(sql);
  return statement.step() ? std::string(statement.text(0)) : std::string();
}

int Database::BusyWait::wait(void* self, int num_waits) {
  constexpr std::int64_t kMinSleepUs = 250;
  constexpr std::int64_t kSleepRangeUs = 1500;
  auto& busy = *static_cast<BusyWait*>(self);
  const auto now = std::chrono::steady_clock::now();
  if (num_waits == 0) busy.start = now;
  if (now - busy.start >= busy.timeout) return 0;
  // Processes that wait for one lock should not ask in step.
  const std::uint64_t random = splitmix64(static_cast<std::uint64_t>(now.time_since_epoch().count()));
  std::this_thread::sleep_for(
      std::chrono::microseconds(kMinSleepUs + static_cast<std::int64_t>(random % kSleepRangeUs)));
  return 1;
}

void Database::set_busy_timeout_ms(int timeout_ms) {
  busy_wait_ = std::make_unique<BusyWait>(BusyWait{.timeout = std::chrono::milliseconds(timeout_ms)});
  const int code = sqlite3_busy_handler(handle_.get(), &BusyWait::wait, busy_wait_.get());
  if (code != SQLITE_OK) fail_sqlite(handle_.get(), code);
}

bool Database::is_read_only() const { return sqlite3_db_readonly(handle_.get(), "main") == 1; }

std::int64_t Database::num_changes() const { return sqlite3_changes64(handle_.get()); }

void Database::copy_into(Database& other) const {
  constexpr int kAllPages = -1;
  sqlite3_backup* backup = sqlite3_backup_init(other.handle_.get(), "main", handle_.get(), "main");
  if (backup == nullptr) fail_sqlite(other.handle_.get(), sqlite3_errcode(other.handle_.get()));
  (void)sqlite3_backup_step(backup, kAllPages);  // finish() returns its error
  const int code = sqlite3_backup_finish(backup);
  if (code != SQLITE_OK) fail_sqlite(other.handle_.get(), code);
}

std::string Database::integrity() const {
  // "*** in database main ***" stands on a line of its own before what is wrong.
  const std::string found = text("PRAGMA integrity_check(1)");
  return one_line(found.substr(found.rfind('\n') + 1));
}

Transaction::Transaction(Database& database) : database_(database) { database_.execute("BEGIN IMMEDIATE"); }

Transaction::~Transaction() {
  // A failed write may have rolled it back already.
  if (!is_open_ || sqlite3_get_autocommit(database_.handle_.get()) != 0) return;
  try {
    database_.execute("ROLLBACK");
  } catch (const std::exception& error) {
    log_error("tuning cache: a transaction is not rolled back: {}", error.what());
  }
}

void Transaction::commit() {
  database_.execute("COMMIT");
  is_open_ = false;
}

}  // namespace flex
