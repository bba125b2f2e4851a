#include "tuner/cache.h"

#include <sqlite3.h>

#include "base/require.h"
#include "tuner/cache_content.h"
#include "tuner/cache_file.h"
#include "tuner/cache_schema.h"

namespace flex {
namespace {

// A wrong checksum may be all that is wrong, or the first sign of more.
void require_integrity(CacheStore& store, std::int64_t num_bad_rows_before) {
  if (store.num_bad_rows() == num_bad_rows_before) return;
  const std::string found = store.database().integrity();
  if (found != "ok") throw SqliteError(SQLITE_CORRUPT, found);
}

template <class Read>
auto read_checked(CacheStore& store, Read&& read) {
  const std::int64_t before = store.num_bad_rows();
  auto result = read();
  require_integrity(store, before);
  return result;
}

}  // namespace

void TuningCache::Content::adopt(OpenedCache opened) {
  if (store) num_bad_rows_before += store->num_bad_rows();
  store.reset();
  is_persistent = opened.why_not_kept.empty();
  store.emplace(std::move(opened.database));
  if (!is_persistent) {
    log_warning("tuning cache {}: {}; the run goes on, and what it tunes is not kept", path.string(),
                opened.why_not_kept);
  }
}

void TuningCache::Content::begin_afresh() {
  num_bad_rows_before += store->num_bad_rows();
  store.reset();  // closes the file
  adopt(replace_damaged_cache(path, options));
}

void TuningCache::Content::go_on_in_memory(const std::string& reason) {
  num_bad_rows_before += store->num_bad_rows();
  store.reset();
  adopt({copy_of_cache(path), reason});
}

TuningCache::TuningCache(std::unique_ptr<Content> content) : content_(std::move(content)) {}
TuningCache::~TuningCache() = default;
TuningCache::TuningCache(TuningCache&&) noexcept = default;
TuningCache& TuningCache::operator=(TuningCache&&) noexcept = default;

TuningCache TuningCache::open(const std::filesystem::path& path, const CacheOptions& options) {
  auto content = std::make_unique<Content>();
  content->path = path;
  content->options = options;
  if (options.mode == CacheMode::kRead) {
    content->store.emplace(read_cache(path));
  } else {
    content->adopt(open_cache(path, options));
  }
  return TuningCache(std::move(content));
}

TuningCache TuningCache::in_memory() {
  auto content = std::make_unique<Content>();
  Database memory = Database::in_memory();
  create_schema(memory);
  content->store.emplace(std::move(memory));
  return TuningCache(std::move(content));
}

const std::filesystem::path& TuningCache::path() const { return content_->path; }

bool TuningCache::is_persistent() const { return content_->is_persistent; }

std::int64_t TuningCache::num_bad_rows() const {
  return content_->num_bad_rows_before + content_->store->num_bad_rows();
}

namespace {

std::int64_t put_trials(CacheStore& store, const TuningKey& key, std::span<const Trial> trials) {
  store.put_key(key);
  const CaseId id = id_of(key);
  std::int64_t num_new = 0;
  for (const Trial& trial : trials) num_new += store.put_trial(id, trial_id(key, trial), trial) ? 1 : 0;
  return num_new;
}

}  // namespace

std::int64_t TuningCache::record(const TuningKey& key, std::span<const Trial> trials) {
  for (const Trial& trial : trials) validate(trial);
  return guarded([&](CacheStore& store) {
    Transaction transaction(store.database());
    const std::int64_t num_new = put_trials(store, key, trials);
    transaction.commit();
    return num_new;
  });
}

std::optional<Decision> TuningCache::record(const TuningKey& key, std::span<const Trial> trials,
                                            const SearchSummary& search) {
  for (const Trial& trial : trials) validate(trial);
  return guarded([&](CacheStore& store) {
    Transaction transaction(store.database());
    put_trials(store, key, trials);
    const CaseId id = id_of(key);
    std::optional<Decision> holds = read_checked(store, [&] { return store.decision(id); });
    const std::vector<Trial> known = read_checked(store, [&] { return store.trials(id); });
    const std::optional<Decision> derived = derive_decision(key, known, search, now_ns());
    if (derived && (!holds || may_replace(*holds, *derived))) {
      store.put_decision(id, *derived);
      holds = derived;
    }
    transaction.commit();
    return holds;
  });
}

std::vector<Trial> TuningCache::trials(const TuningKey& key) {
  return guarded(
      [&](CacheStore& store) { return read_checked(store, [&] { return store.trials(id_of(key)); }); });
}

std::optional<Decision> TuningCache::decision(const TuningKey& key) {
  return guarded(
      [&](CacheStore& store) { return read_checked(store, [&] { return store.decision(id_of(key)); }); });
}

CacheSnapshot TuningCache::snapshot(const Environment& environment) {
  return guarded([&](CacheStore& store) {
    return read_checked(store, [&] {
      const std::uint64_t environment_key = environment_id(environment);
      std::vector<CacheSnapshot::Entry> entries;
      store.each_decision(environment_key, [&](const CaseId& id, const Decision& decision) {
        entries.push_back({.layer = id.layer,
                           .one = id.one,
                           .plan = decision.plan,
                           .source = decision.source,
                           .is_complete = decision.is_complete,
                           .median_ns = decision.median_ns,
                           .default_median_ns = decision.default_median_ns});
      });
      return CacheSnapshot(environment_key, std::move(entries));
    });
  });
}

}  // namespace flex
