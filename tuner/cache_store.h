#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "tuner/sqlite.h"
#include "tuner/trial.h"

namespace flex {

/// A case as its rows know it.
struct CaseId {
  std::uint64_t environment = 0;
  std::uint64_t layer = 0;
  TuningCase one;

  friend auto operator<=>(const CaseId&, const CaseId&) = default;
};
[[nodiscard]] CaseId id_of(const TuningKey& key);

/// A row of samples.
struct StoredSample {
  std::string part;
  std::string line;
  std::int64_t measured_at_ns = 0;
};

/// Values to rows and back, over a database of the current schema. What is read is checked: a row whose
/// checksum is wrong, or that holds what cannot be, is left out and counted. Every call may throw
/// SqliteError; who writes more than one row opens a Transaction around it.
class CacheStore {
 public:
  explicit CacheStore(Database database);

  [[nodiscard]] Database& database() { return database_; }

  /// Makes a case known, before its first trial or decision.
  void put_key(const TuningKey& key);
  void put_environment(const Environment& environment);
  /// In place of what the part has.
  void put_samples(const Environment& environment, const std::string& part,
                   std::span<const std::string> lines, std::int64_t measured_at_ns);
  /// Part after part, in the order of the lines.
  [[nodiscard]] std::vector<StoredSample> samples(std::uint64_t environment);
  /// False if it is there already.
  bool put_trial(const CaseId& id, std::uint64_t trial, const Trial& value);
  /// In place of the one that is there.
  void put_decision(const CaseId& id, const Decision& decision);

  [[nodiscard]] std::vector<Trial> trials(const CaseId& id);
  [[nodiscard]] std::optional<Decision> decision(const CaseId& id);

  /// Calls visit(const CaseId&, const Decision&) on all decisions of an environment.
  template <class Visit>
  void each_decision(std::uint64_t environment, Visit&& visit) {
    decisions_of_environment_.bind(static_cast<std::int64_t>(environment)).each([&](const Statement& row) {
      if (const auto found = read_decision(row)) visit(found->first, found->second);
    });
  }

  /// The cases that have trials or decisions, in ascending order.
  [[nodiscard]] std::vector<CaseId> cases();
  [[nodiscard]] std::unordered_map<std::uint64_t, Environment> environments();
  [[nodiscard]] std::unordered_map<std::uint64_t, TunedLayer> layers();

  /// Removes trials made before a time that no decision rests on. Returns how many.
  std::int64_t remove_trials_before(std::int64_t time_ns);
  /// Removes every row of a build of Flex other than `build`. Returns how many trials, decisions and samples.
  std::int64_t remove_other_builds(const std::string& build);
  /// Removes rows with wrong checksums, and what refers to them. Returns how many trials, decisions and
  /// samples.
  std::int64_t remove_bad_rows();

  /// Rows read so far that were left out; a row that was read twice counts twice.
  [[nodiscard]] std::int64_t num_bad_rows() const { return num_bad_rows_; }

 private:
  [[nodiscard]] std::optional<std::pair<CaseId, Decision>> read_decision(const Statement& row);
  [[nodiscard]] std::optional<Trial> read_trial(const Statement& row);
  [[nodiscard]] std::optional<Plan> parse_stored_plan(std::string_view text);

  Database database_;
  Statement insert_environment_;
  Statement insert_layer_;
  Statement insert_trial_;
  Statement insert_decision_;
  Statement trials_of_case_;
  Statement decision_of_case_;
  Statement decisions_of_environment_;
  std::int64_t num_bad_rows_ = 0;
  std::string last_plan_text_;  ///< neighbours in the table often have the same
  Plan last_plan_;
};

}  // namespace flex
