#pragma once

#include <cstdint>
#include <string>

#include "tuner/embedded_schema.h"
#include "tuner/sqlite.h"

namespace flex {

/// Marks a file as a tuning cache of Flex: `PRAGMA application_id`, the letters FLXC.
inline constexpr std::int64_t kCacheApplicationId = 0x464C5843;

enum class SchemaState : std::uint8_t {
  kEmpty,  ///< holds nothing yet
  kCurrent,
  kOlder,    ///< can be migrated
  kNewer,    ///< of a later Flex
  kForeign,  ///< of another program
};

/// @throws SqliteError if the file cannot be read; is_damage() for what is no SQLite file.
[[nodiscard]] SchemaState schema_state(const Database& database);

/// Whether the tables are exactly those of schema.sql; comments and spaces aside.
[[nodiscard]] bool has_current_tables(const Database& database);

/// Makes the tables if there are none. Several processes may do so at once.
void create_schema(Database& database);

/// Brings a cache of an older schema to this one, in one transaction. Several processes may do so at once.
void migrate_schema(Database& database);

}  // namespace flex
