#include "tuner/cache_schema.h"

#include "base/require.h"

namespace flex {
namespace {

std::int64_t version_of(const Database& database) { return database.integer("PRAGMA user_version"); }

void set_version(Database& database) {
  database.execute(fmt::format("PRAGMA user_version = {}", kSchemaVersion));
}

}  // namespace

SchemaState schema_state(const Database& database) {
  const std::int64_t application = database.integer("PRAGMA application_id");
  const std::int64_t version = version_of(database);
  const bool has_tables = database.integer("SELECT count(*) FROM sqlite_schema") > 0;
  if (application == 0 && version == 0 && !has_tables) return SchemaState::kEmpty;
  if (application != kCacheApplicationId || !has_tables) return SchemaState::kForeign;
  if (version > kSchemaVersion) return SchemaState::kNewer;
  if (version < kOldestSchemaVersion) return SchemaState::kForeign;
  return version == kSchemaVersion ? SchemaState::kCurrent : SchemaState::kOlder;
}

void create_schema(Database& database) {
  Transaction transaction(database);
  if (schema_state(database) == SchemaState::kEmpty) {  // another process may have been faster
    database.execute(kSchemaSql);
    database.execute(fmt::format("PRAGMA application_id = {}", kCacheApplicationId));
    set_version(database);
  }
  transaction.commit();
}

void migrate_schema(Database& database) {
  Transaction transaction(database);
  if (schema_state(database) == SchemaState::kOlder) {
    for (std::int64_t version = version_of(database); version < kSchemaVersion; ++version) {
      database.execute(kMigrationSql[version - kOldestSchemaVersion]);
    }
    set_version(database);
  }
  transaction.commit();
}

}  // namespace flex
