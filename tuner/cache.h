#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "costmodel/cost_sample.h"
#include "tuner/cache_snapshot.h"
#include "tuner/derive_decision.h"
#include "tuner/trial.h"

namespace flex {

/// `FLEX_CACHE`, otherwise `$XDG_CACHE_HOME/flexmoe/tuning.db`, otherwise `~/.cache/flexmoe/tuning.db`; empty
/// if the environment has none of these.
[[nodiscard]] std::filesystem::path default_cache_path();

enum class CacheMode : std::uint8_t {
  kReadWrite,  ///< for a run: whatever is wrong with the file, the run goes on
  kRead,       ///< for a look: the file is not touched, and what is wrong with it is an error
};

struct CacheOptions {
  CacheMode mode = CacheMode::kReadWrite;
  int busy_timeout_ms = 10'000;         ///< to wait while another process writes
  std::int64_t max_bytes = 0;           ///< of the file; 0: as large as it gets
  std::optional<bool> on_network = {};  ///< whether the file lies on a network file system; nothing: asked
};

/// A case of the cache, for listings.
struct CachedCase {
  TuningKey key;
  std::optional<Decision> decision;
  std::int64_t num_trials = 0;
};

/// Samples of operations that were measured together.
struct SamplePart {
  std::string name;
  std::int64_t measured_at_ns = 0;  ///< since 1970-01-01 UTC
  std::vector<CostSample> samples;
};

struct CacheMerge {
  std::int64_t num_trials = 0;     ///< that were not there
  std::int64_t num_decisions = 0;  ///< that are new or changed
  std::int64_t num_parts = 0;      ///< of samples that were not there
};

/// What is removed; nothing of what is left out.
struct CachePruning {
  std::optional<std::int64_t> trials_before_ns = {};  ///< made earlier, unless a decision rests on them
  std::optional<std::string> only_build = {};         ///< all that belongs to another build of Flex
  bool bad_rows = false;                              ///< with wrong checksums
};

/// The tuner's memory across runs: trials, and the decisions derived from them, in one SQLite file. In a job
/// rank 0 alone has one and broadcasts snapshots; several jobs may share the file. Not thread-safe.
///
/// What does not fit (other hardware, other software, another schema, a wrong checksum) is a miss, never an
/// error. Every write is a transaction, and on disk when the call returns. A file of an older schema is
/// migrated, and a copy kept; one of a newer schema, of another program or with damage is set aside under
/// another name with one line in the log, and a fresh one begun; nothing is deleted. A file that cannot be
/// written is copied into memory, and the run goes on without persistence and says so once.
///
/// In mode kReadWrite calls throw InputError for bad arguments, and CacheError only if SQLite fails in
/// memory, too.
class TuningCache {
 public:
  /// @throws in mode kRead: FileError if there is no such file, InputError if it is no cache that this Flex
  /// can read. An empty path is a cache in memory, which is said.
  [[nodiscard]] static TuningCache open(const std::filesystem::path& path, const CacheOptions& options = {});
  [[nodiscard]] static TuningCache in_memory();

  ~TuningCache();
  TuningCache(TuningCache&&) noexcept;
  TuningCache& operator=(TuningCache&&) noexcept;

  [[nodiscard]] const std::filesystem::path& path() const;
  /// False in memory: what is recorded is gone at the end.
  [[nodiscard]] bool is_persistent() const;
  /// Rows that were left out because their checksum was wrong, so far; one that was read twice counts twice.
  [[nodiscard]] std::int64_t num_bad_rows() const;

  /// Adds trials of a case; those that are there already (trial_id) are left as they are. Returns how many
  /// are new. @throws InputError for a trial that cannot be.
  std::int64_t record(const TuningKey& key, std::span<const Trial> trials);

  /// The same, and derives the decision of the case anew from all its trials, in one transaction. The
  /// decision that is there stays if may_replace() says so, or if none can be derived.
  /// Returns what then holds.
  std::optional<Decision> record(const TuningKey& key, std::span<const Trial> trials,
                                 const SearchSummary& search);

  [[nodiscard]] std::vector<Trial> trials(const TuningKey& key);  ///< from the oldest on
  [[nodiscard]] std::optional<Decision> decision(const TuningKey& key);

  /// All decisions of an environment, for lookups while the layer runs.
  [[nodiscard]] CacheSnapshot snapshot(const Environment& environment);

  /// Keeps samples that were measured together in an environment, in place of what the part had.
  /// @throws InputError for no name or no samples.
  void record_samples(const Environment& environment, const std::string& part,
                      std::span<const CostSample> samples);
  /// All of an environment, in the order of their names.
  [[nodiscard]] std::vector<SamplePart> samples(const Environment& environment);

  /// Everything, in a fixed order.
  [[nodiscard]] std::vector<CachedCase> cases();

  /// Takes over what `other` knows. Where both have a decision, the new one is derived from the trials of
  /// both; where both have a part of samples, the own stays.
  CacheMerge merge(TuningCache& other);
  /// Returns the number of trials, decisions and samples that were removed.
  std::int64_t prune(const CachePruning& pruning);
  /// What is wrong with the content, one line each; empty: nothing. Reads everything.
  [[nodiscard]] std::vector<std::string> verify();

 private:
  struct Content;
  explicit TuningCache(std::unique_ptr<Content> content);
  /// work(CacheStore&), again after the file was set aside or given up.
  template <class Work>
  auto guarded(Work&& work);

  std::unique_ptr<Content> content_;
};

}  // namespace flex
