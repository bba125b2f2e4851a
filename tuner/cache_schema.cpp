#include "tuner/cache_schema.h"

#include <algorithm>

#include "base/require.h"

namespace flex {
namespace {

std::int64_t version_of(const Database& database) { return database.integer("PRAGMA user_version"); }

void set_version(Database& database) {
  database.execute(fmt::format("PRAGMA user_version = {}", kSchemaVersion));
}

// Without comments and white space, which differ between a migrated and a fresh file.
std::string bare(std::string_view sql) {
  std::string text;
  for (std::size_t i = 0; i < sql.size(); ++i) {
    if (sql.substr(i, 2) == "--") i = std::min(sql.find('\n', i), sql.size() - 1);
    const bool is_space = sql[i] == ' ' || sql[i] == '\n';
    if (!is_space) text += sql[i];
  }
  return text;
}

}  // namespace

bool has_current_tables(const Database& database) {
  std::string tables;
  database
      .prepare(
          "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid")
      .each([&](const Statement& row) { tables.append(row.text(0)).append(";"); });
  return bare(tables) == bare(kSchemaSql);
}

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
