#include <algorithm>
#include <tuple>
#include <utility>

#include "base/require.h"
#include "tuner/cache.h"
#include "tuner/cache_content.h"

/// What `flexmoe cache` does with whole caches.
namespace flex {

std::vector<CachedCase> TuningCache::cases() {
  return guarded([](CacheStore& store) {
    const auto environments = store.environments();
    const auto layers = store.layers();
    std::vector<CachedCase> cases;
    for (const CaseId& id : store.cases()) {
      const auto environment = environments.find(id.environment);
      const auto layer = layers.find(id.layer);
      if (environment == environments.end() || layer == layers.end()) continue;  // counted above
      CachedCase one{.key = {environment->second, layer->second, id.one}};
      one.decision = store.decision(id);
      one.num_trials = static_cast<std::int64_t>(store.trials(id).size());
      if (one.decision || one.num_trials > 0) cases.push_back(std::move(one));
    }
    return cases;
  });
}

namespace {

// The better of two decisions of one case that cannot be derived again.
bool is_better(const Decision& a, const Decision& b) {
  const auto rank = [](const Decision& d) {
    return std::tuple(d.source, d.is_complete, d.num_trials, d.decided_at_ns);
  };
  return rank(a) > rank(b);
}

// What the case should have after trials of both caches were put together.
std::optional<Decision> merged(const TuningKey& key, const std::vector<Trial>& trials,
                               const std::optional<Decision>& ours, const std::optional<Decision>& theirs) {
  if (!theirs) return ours;
  if (!ours) return theirs;
  const Decision& better = is_better(*theirs, *ours) ? *theirs : *ours;
  const SearchSummary search{.strategy = better.strategy, .is_complete = better.is_complete};
  const auto derived =
      derive_decision(key, trials, search, std::max(ours->decided_at_ns, theirs->decided_at_ns));
  // Where one side's trials were pruned, less would be compared than its decision rests on.
  if (!derived || derived->num_trials < better.num_trials || !may_replace(better, *derived)) return better;
  const bool rests_on_the_same = derived->plan_trial == better.plan_trial &&
                                 derived->default_trial == better.default_trial &&
                                 derived->num_trials == better.num_trials;
  return rests_on_the_same ? better : *derived;
}

/// A part of samples as it is stored.
struct SamplesOf {
  Environment environment;
  std::string part;
  std::vector<std::string> lines;
  std::int64_t measured_at_ns = 0;
};

std::vector<SamplesOf> samples_of_all(CacheStore& store) {
  std::vector<SamplesOf> all;
  for (const auto& [id, environment] : store.environments()) {
    std::string part;  // never empty in the file
    for (StoredSample& stored : store.samples(id)) {
      if (std::exchange(part, stored.part) != stored.part) {
        all.push_back({environment, stored.part, {}, stored.measured_at_ns});
      }
      all.back().lines.push_back(std::move(stored.line));
    }
  }
  return all;
}

std::int64_t merge_samples(CacheStore& store, const std::vector<SamplesOf>& theirs) {
  std::int64_t num_parts = 0;
  for (const SamplesOf& one : theirs) {
    const std::vector<StoredSample> ours = store.samples(environment_id(one.environment));
    if (std::ranges::find(ours, one.part, &StoredSample::part) != ours.end()) continue;
    store.put_samples(one.environment, one.part, one.lines, one.measured_at_ns);
    ++num_parts;
  }
  return num_parts;
}

}  // namespace

CacheMerge TuningCache::merge(TuningCache& other) {
  const std::vector<CachedCase> theirs = other.cases();
  std::vector<std::vector<Trial>> trials;
  trials.reserve(theirs.size());
  for (const CachedCase& one : theirs) trials.push_back(other.trials(one.key));
  const std::vector<SamplesOf> their_samples =
      other.guarded([](CacheStore& store) { return samples_of_all(store); });
  return guarded([&](CacheStore& store) {
    CacheMerge result;
    Transaction transaction(store.database());
    result.num_parts = merge_samples(store, their_samples);
    for (std::size_t i = 0; i < theirs.size(); ++i) {
      const TuningKey& key = theirs[i].key;
      const CaseId id = id_of(key);
      store.put_key(key);
      for (const Trial& trial : trials[i]) {
        result.num_trials += store.put_trial(id, trial_id(key, trial), trial) ? 1 : 0;
      }
      const auto ours = store.decision(id);
      const auto next = merged(key, store.trials(id), ours, theirs[i].decision);
      if (!next || next == ours) continue;
      store.put_decision(id, *next);
      ++result.num_decisions;
    }
    transaction.commit();
    return result;
  });
}

std::int64_t TuningCache::prune(const CachePruning& pruning) {
  return guarded([&](CacheStore& store) {
    std::int64_t count = 0;
    {
      Transaction transaction(store.database());
      if (pruning.bad_rows) count += store.remove_bad_rows();
      if (pruning.only_build) count += store.remove_other_builds(*pruning.only_build);
      if (pruning.trials_before_ns) count += store.remove_trials_before(*pruning.trials_before_ns);
      transaction.commit();
    }
    if (count > 0) store.database().execute("VACUUM");
    return count;
  });
}

namespace {

void verify_case(CacheStore& store, const CaseId& id, const TuningKey& key, std::vector<std::string>& found) {
  const std::string where = fmt::format("case {}", case_name(key));
  const std::vector<Trial> trials = store.trials(id);
  const auto decision = store.decision(id);
  if (!decision) return;
  for (const std::uint64_t needed : {decision->plan_trial, decision->default_trial}) {
    if (!std::ranges::any_of(trials, [&](const Trial& trial) { return trial_id(key, trial) == needed; })) {
      found.push_back(
          fmt::format("{}: its decision rests on trial {:016x}, which is missing", where, needed));
    }
  }
  if (decision->median_ns != decision->default_median_ns && decision->plan == default_plan(id.one)) {
    found.push_back(fmt::format("{}: the default plan has two times", where));
  }
}

}  // namespace

std::vector<std::string> TuningCache::verify() {
  CacheStore& store = *content_->store;
  std::vector<std::string> found;
  try {
    if (const std::string integrity = store.database().integrity(); integrity != "ok")
      found.push_back(integrity);
    const std::int64_t orphans = store.database().integer("SELECT count(*) FROM pragma_foreign_key_check");
    if (orphans > 0)
      found.push_back(fmt::format("{} row(s) refer to an environment or a layer that is missing", orphans));
    const std::int64_t before = store.num_bad_rows();
    const auto environments = store.environments();
    const auto layers = store.layers();
    for (const CaseId& id : store.cases()) {
      const auto environment = environments.find(id.environment);
      const auto layer = layers.find(id.layer);
      if (environment == environments.end() || layer == layers.end()) continue;
      verify_case(store, id, {environment->second, layer->second, id.one}, found);
    }
    for (const auto& [id, environment] : environments)
      static_cast<void>(store.samples(id));  // counts bad rows
    const std::int64_t num_bad = store.num_bad_rows() - before;
    if (num_bad > 0)
      found.push_back(fmt::format("{} row(s) whose checksum is wrong; they are not used", num_bad));
  } catch (const SqliteError& error) {
    found.emplace_back(error.what());
  }
  return found;
}

}  // namespace flex
