#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

struct sqlite3;
struct sqlite3_stmt;

/// SQLite with owners for its handles and an exception for each of its codes. Not thread-safe.
namespace flex {

/// What SQLite answered.
class SqliteError : public CacheError {
 public:
  SqliteError(int code, const std::string& message) : CacheError(message), code_(code) {}
  [[nodiscard]] int code() const { return code_; }
  /// The file's content is not what SQLite wrote, not SQLite's at all, or its tables are not those that the
  /// statement needs.
  [[nodiscard]] bool is_damage() const;

 private:
  int code_;  ///< the primary one, without what extended codes add
};

/// A prepared statement, to be used again and again.
class Statement {
 public:
  /// Binds the parameters from ?1 on, all of them. Text and bytes must live until the statement is reset.
  template <class... Values>
  Statement& bind(const Values&... values) {
    int index = 0;
    (bind_one(++index, values), ...);
    return *this;
  }
  void bind_one(int index, std::int64_t value);
  void bind_one(int index, std::string_view text);
  void bind_one(int index, std::span<const std::byte> bytes);

  /// To its end, without looking at rows; then reset.
  void run();
  /// Calls visit(statement) on every row; then reset, also if it throws.
  template <class Visit>
  void each(Visit&& visit) {
    const Reset reset(*this);
    while (step()) visit(*this);
  }
  /// True if there is a row; to be reset afterwards.
  [[nodiscard]] bool step();
  void reset() noexcept;

  // Of the row at hand. Text and bytes live until the next step.
  [[nodiscard]] std::int64_t integer(int column) const;
  [[nodiscard]] std::string_view text(int column) const;
  [[nodiscard]] std::span<const std::byte> bytes(int column) const;
  /// Checksum over the columns [0, count), as flex_checksum() forms it in SQL. Those that are integers are
  /// put into `integers`, zero for the others, unless it is empty: asking SQLite twice for each would take as
  /// long as all else.
  [[nodiscard]] std::uint64_t checksum(int count, std::span<std::int64_t> integers) const;

 private:
  friend class Database;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  class Reset {
   public:
    explicit Reset(Statement& statement) : statement_(statement) {}
    ~Reset() { statement_.reset(); }
    Reset(const Reset&) = delete;
    Reset& operator=(const Reset&) = delete;

   private:
    Statement& statement_;
  };
  Statement(sqlite3* database, std::string_view sql);
  void check(int code) const;

  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

/// A connection. Statements of it must not outlive it.
class Database {
 public:
  enum class Access : std::uint8_t {
    kCreate,     ///< for writing; the file may be new
    kRead,       ///< changes nothing, but needs the files of a WAL beside
    kImmutable,  ///< for a file that none writes: not even locks are taken, and a WAL is not looked at
  };
  /// @throws SqliteError
  [[nodiscard]] static Database open(const std::filesystem::path& path, Access access);
  [[nodiscard]] static Database in_memory();

  void execute(const std::string& sql);
  [[nodiscard]] Statement prepare(std::string_view sql) const { return {handle_.get(), sql}; }
  /// The first column of the first row.
  [[nodiscard]] std::int64_t integer(std::string_view sql) const;
  [[nodiscard]] std::string text(std::string_view sql) const;
  /// How long to wait while another connection writes; at first, not at all. Asks again every millisecond or
  /// so: SQLite's own handler sleeps up to 100 ms, and starves for many seconds beside processes that write
  /// without a pause.
  void set_busy_timeout_ms(int timeout_ms);
  /// The file, or its directory, does not take writes.
  [[nodiscard]] bool is_read_only() const;
  [[nodiscard]] std::int64_t num_changes() const;  ///< rows changed by the last statement
  /// Puts a consistent copy of the whole content into `other`, in place of what it held.
  void copy_into(Database& other) const;
  /// What `PRAGMA integrity_check` says: "ok", or the first thing that is wrong.
  [[nodiscard]] std::string integrity() const;

 private:
  friend class Transaction;
  struct Close {
    void operator()(sqlite3* database) const;
  };
  struct BusyWait {
    std::chrono::milliseconds timeout;
    std::chrono::steady_clock::time_point start;
    static int wait(void* self, int num_waits);
  };
  explicit Database(const std::string& uri, int flags);

  std::unique_ptr<BusyWait> busy_wait_;  ///< the connection refers to it
  std::unique_ptr<sqlite3, Close> handle_;
};

/// Rolled back at the end of its scope unless committed. Takes the file's one writing lock at once, so that
/// nothing that it has read can change before it writes.
class Transaction {
 public:
  explicit Transaction(Database& database);
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  void commit();

 private:
  Database& database_;
  bool is_open_ = true;
};

}  // namespace flex
