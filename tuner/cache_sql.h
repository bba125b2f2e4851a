#pragma once

#include <string>

/// The statements of the cache as text: one list of columns for each table.
namespace flex {

// Columns in the order of their checksum, which is a row's last column.
#define FLEX_CASE_COLUMNS "environment, layer, pass, given_degree, capacity_bucket, imbalance_bucket"
#define FLEX_TRIAL_COLUMNS                                                                           \
  FLEX_CASE_COLUMNS                                                                                  \
  ", id, plan, outcome, source, origin, num_tokens, capacity, num_warmup, num_repeats, samples_ns, " \
  "median_ns, spread_ns, measured_at_ns, device_clock_MHz"
#define FLEX_DECISION_COLUMNS                                                         \
  FLEX_CASE_COLUMNS                                                                   \
  ", plan, source, is_complete, strategy, median_ns, default_median_ns, plan_trial, " \
  "default_trial, num_trials, decided_at_ns"
#define FLEX_SAMPLE_COLUMNS "environment, part, number, line, measured_at_ns"
#define FLEX_OF_CASE                                                                                  \
  "environment = ?1 AND layer = ?2 AND pass = ?3 AND given_degree = ?4 AND capacity_bucket = ?5 AND " \
  "imbalance_bucket = ?6"

inline constexpr int kCaseColumns = 6;
inline constexpr int kTrialColumns = 20;
inline constexpr int kDecisionColumns = 16;
inline constexpr int kSampleColumns = 5;

/// The fields of an environment or a layer.
struct FieldList {
  std::string names;  ///< "device, intra_node, ..."
  int count = 0;
};
[[nodiscard]] FieldList environment_fields();
[[nodiscard]] FieldList layer_fields();

// Their parameters are the columns in order. What is there stays; but a row that went bad is put right.
[[nodiscard]] std::string insert_environment_sql();
[[nodiscard]] std::string insert_layer_sql();
[[nodiscard]] std::string insert_trial_sql();
[[nodiscard]] std::string insert_sample_sql();
/// Takes the place of what is there.
[[nodiscard]] std::string insert_decision_sql();

}  // namespace flex
