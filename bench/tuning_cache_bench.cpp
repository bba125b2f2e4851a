#include <benchmark/benchmark.h>

#include <filesystem>
#include <vector>

#include "base/philox.h"
#include "tests/base/temporary_directory.h"
#include "tests/tuner/cache_cases.h"
#include "tuner/cache_content.h"

/// How long the tuning cache takes with 100,000 decisions: opening the file and taking a snapshot; looking a
/// decision up in an iteration; recording a trial.
namespace flex {
namespace {

constexpr std::int32_t kDecisions = 100'000;

// A file with that many decisions, written once and in one transaction; each case has two trials.
const std::filesystem::path& large_cache() {
  static const TemporaryDirectory directory;
  static const std::filesystem::path path = [] {
    const std::filesystem::path file = directory / "tuning.db";
    CacheStore store(open_cache(file, {}).database);
    Transaction transaction(store.database());
    const std::vector<Trial> trials = testing::two_trials();
    for (std::int32_t i = 0; i < kDecisions; ++i) {
      const TuningKey key = testing::key_at(i / 4, i % 4);
      if (i == 0) store.put_key(key);
      for (const Trial& trial : trials) store.put_trial(id_of(key), trial_id(key, trial), trial);
      store.put_decision(id_of(key), *derive_decision(key, trials, testing::kCompleteSearch, now_ns()));
    }
    transaction.commit();
    return file;
  }();
  return path;
}

void open_and_snapshot(benchmark::State& state) {
  const std::filesystem::path& path = large_cache();
  const TuningKey key = testing::key_at(0);
  for (auto _ : state) {
    TuningCache cache = TuningCache::open(path);
    const CacheSnapshot snapshot = cache.snapshot(key.environment);
    if (snapshot.entries().size() != kDecisions) state.SkipWithError("decisions are missing");
  }
}
BENCHMARK(open_and_snapshot)->Unit(benchmark::kMillisecond);

void open_only(benchmark::State& state) {
  const std::filesystem::path& path = large_cache();
  for (auto _ : state) benchmark::DoNotOptimize(TuningCache::open(path));
}
BENCHMARK(open_only)->Unit(benchmark::kMillisecond);

// At places in a random order, so that the processor's caches do not help more than in a run.
void find(benchmark::State& state) {
  TuningCache cache = TuningCache::open(large_cache());
  const TuningKey key = testing::key_at(0);
  const CacheSnapshot snapshot = cache.snapshot(key.environment);
  const std::uint64_t layer = layer_id(key.layer);
  PhiloxStream random(1);
  std::vector<TuningCase> cases;
  for (int i = 0; i < (1 << 16); ++i) {
    cases.push_back({.capacity_bucket = static_cast<std::int32_t>(random.below(kDecisions / 4)),
                     .imbalance_bucket = static_cast<std::int32_t>(random.below(4))});
  }
  std::size_t at = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(snapshot.find(layer, cases[at]));
    at = (at + 1) % cases.size();
  }
}
BENCHMARK(find);

void record_trial(benchmark::State& state) {
  const TemporaryDirectory directory;
  TuningCache cache = TuningCache::open(directory / "tuning.db");
  std::int64_t measured_at_ns = 0;
  for (auto _ : state) {
    const std::vector<Trial> trial = {testing::trial_of("r1", {200, 300, 400}, ++measured_at_ns)};
    benchmark::DoNotOptimize(cache.record(testing::key_at(3), trial));
  }
}
BENCHMARK(record_trial)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace flex

BENCHMARK_MAIN();
