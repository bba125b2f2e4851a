#include <fmt/format.h>

#include "base/require.h"
#include "tuner/cache.h"
#include "tuner/cache_content.h"
#include "tuner/cache_sql.h"
#include "tuner/key_fields.h"

/// Samples of operations in the tuning cache.
namespace flex {

void CacheStore::put_samples(const Environment& environment, const std::string& part,
                             std::span<const std::string> lines, std::int64_t measured_at_ns) {
  put_environment(environment);
  const auto id = static_cast<std::int64_t>(environment_id(environment));
  database_.prepare("DELETE FROM samples WHERE environment = ?1 AND part = ?2")
      .bind(id, std::string_view(part))
      .run();
  Statement insert = database_.prepare(insert_sample_sql());
  std::int64_t number = 0;
  for (const std::string& line : lines) {
    insert.bind(id, std::string_view(part), number++, std::string_view(line), measured_at_ns).run();
  }
}

std::vector<StoredSample> CacheStore::samples(std::uint64_t environment) {
  std::vector<StoredSample> samples;
  database_
      .prepare("SELECT " FLEX_SAMPLE_COLUMNS
               ", checksum FROM samples WHERE environment = ?1 ORDER BY part, number")
      .bind(static_cast<std::int64_t>(environment))
      .each([&](const Statement& row) {
        if (row.checksum(kSampleColumns, {}) != static_cast<std::uint64_t>(row.integer(kSampleColumns))) {
          ++num_bad_rows_;
          return;
        }
        samples.push_back({.part = std::string(row.text(1)),
                           .line = std::string(row.text(3)),
                           .measured_at_ns = row.integer(4)});
      });
  return samples;
}

void TuningCache::record_samples(const Environment& environment, const std::string& part,
                                 std::span<const CostSample> samples) {
  require(!part.empty() && !samples.empty(), "part '{}' of {} samples; it has a name, and at least one", part,
          samples.size());
  std::vector<std::string> lines;
  for (const CostSample& sample : samples) lines.push_back(to_json_line(sample));
  guarded([&](CacheStore& store) {
    Transaction transaction(store.database());
    store.put_samples(environment, part, lines, now_ns());
    transaction.commit();
    return 0;
  });
}

std::vector<SamplePart> TuningCache::samples(const Environment& environment) {
  return guarded([&](CacheStore& store) {
    std::vector<SamplePart> parts;
    for (const StoredSample& stored : store.samples(environment_id(environment))) {
      if (parts.empty() || parts.back().name != stored.part) {
        parts.push_back({.name = stored.part, .measured_at_ns = stored.measured_at_ns});
      }
      // The file is not the user's input, but a line of another version of Flex may not be known here.
      try {
        for (CostSample& sample : parse_cost_samples(stored.line, "a sample of the tuning cache")) {
          parts.back().samples.push_back(std::move(sample));
        }
      } catch (const InputError&) {  // NOLINT(bugprone-empty-catch): what cannot be read is a miss
      }
    }
    return parts;
  });
}

}  // namespace flex
