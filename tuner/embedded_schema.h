#pragma once

#include <cstdint>

namespace flex {

inline constexpr std::int64_t kSchemaVersion = 3;        ///< that schema.sql makes
inline constexpr std::int64_t kOldestSchemaVersion = 1;  ///< that can be migrated

extern const char* const kSchemaSql;
/// [i] leads from schema kOldestSchemaVersion + i to the next.
extern const char* const kMigrationSql[kSchemaVersion - kOldestSchemaVersion];

}  // namespace flex
