#include <fmt/format.h>

#include <utility>

#include "tuner/cache_sql.h"
#include "tuner/cache_store.h"

/// What CacheStore removes.
namespace flex {

std::int64_t CacheStore::remove_trials_before(std::int64_t time_ns) {
  database_
      .prepare(
          "DELETE FROM trials WHERE measured_at_ns < ?1 AND id NOT IN (SELECT plan_trial FROM decisions "
          "UNION SELECT default_trial FROM decisions)")
      .bind(time_ns)
      .run();
  return database_.num_changes();
}

std::int64_t CacheStore::remove_other_builds(const std::string& build) {
  std::int64_t count = 0;
  for (const char* table : {"trials", "decisions", "samples"}) {
    database_
        .prepare(fmt::format(
            "DELETE FROM {} WHERE environment IN (SELECT id FROM environments WHERE build <> ?1)", table))
        .bind(std::string_view(build))
        .run();
    count += database_.num_changes();
  }
  database_.prepare("DELETE FROM environments WHERE build <> ?1").bind(std::string_view(build)).run();
  return count;
}

std::int64_t CacheStore::remove_bad_rows() {
  const auto is_bad_id = [](const FieldList& fields) {
    return fmt::format("id <> flex_checksum({})", fields.names);
  };
  const std::string environment = is_bad_id(environment_fields());
  const std::string layer = is_bad_id(layer_fields());
  std::int64_t count = 0;
  for (const auto& [table, columns] :
       {std::pair{"trials", FLEX_TRIAL_COLUMNS}, std::pair{"decisions", FLEX_DECISION_COLUMNS}}) {
    database_.execute(
        fmt::format("DELETE FROM {} WHERE checksum <> flex_checksum({}) OR environment NOT IN (SELECT id "
                    "FROM environments WHERE NOT {}) OR layer NOT IN (SELECT id FROM layers WHERE NOT {})",
                    table, columns, environment, layer));
    count += database_.num_changes();
  }
  database_.execute(fmt::format(
      "DELETE FROM samples WHERE checksum <> flex_checksum({}) OR environment NOT IN (SELECT id FROM "
      "environments WHERE NOT {})",
      FLEX_SAMPLE_COLUMNS, environment));
  count += database_.num_changes();
  database_.execute(fmt::format("DELETE FROM environments WHERE {}", environment));
  database_.execute(fmt::format("DELETE FROM layers WHERE {}", layer));
  return count;
}

}  // namespace flex
