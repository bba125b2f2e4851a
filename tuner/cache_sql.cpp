#include "tuner/cache_sql.h"

#include <fmt/format.h>

#include "tuner/key_fields.h"

namespace flex {
namespace {

std::string parameters(int count) {
  std::string text;
  for (int i = 1; i <= count; ++i) text += fmt::format("{}?{}", i == 1 ? "" : ", ", i);
  return text;
}

// "INSERT INTO table (columns, checksum) VALUES (?1, ..., flex_checksum(?1, ...))"
std::string insert_sql(const char* action, const char* table, const char* columns, int count) {
  const std::string values = parameters(count);
  return fmt::format("{} INTO {} ({}, checksum) VALUES ({}, flex_checksum({}))", action, table, columns,
                     values, values);
}

// An environment or a layer: its id is the checksum.
std::string insert_by_id_sql(const char* table, const FieldList& fields) {
  const std::string values = parameters(fields.count);
  return fmt::format(
      "INSERT INTO {0} (id, {1}) VALUES (flex_checksum({2}), {2}) ON CONFLICT DO UPDATE SET ({1}) = "
      "({2}) WHERE id <> flex_checksum({1})",
      table, fields.names, values);
}

struct AppendName {
  FieldList& list;
  template <class Field>
  void operator()(const char* name, const Field&) {
    list.names += std::string(list.count == 0 ? "" : ", ") + name;
    ++list.count;
  }
};

}  // namespace

FieldList environment_fields() {
  FieldList list;
  const Environment none;
  for_each_environment_field(none, AppendName{list});
  return list;
}

FieldList layer_fields() {
  FieldList list;
  const TunedLayer none;
  for_each_layer_field(none, AppendName{list});
  return list;
}

std::string insert_environment_sql() { return insert_by_id_sql("environments", environment_fields()); }

std::string insert_layer_sql() { return insert_by_id_sql("layers", layer_fields()); }

std::string insert_trial_sql() {
  return insert_sql("INSERT", "trials", FLEX_TRIAL_COLUMNS, kTrialColumns) +
         fmt::format(
             " ON CONFLICT DO UPDATE SET ({0}, checksum) = ({1}, flex_checksum({1})) WHERE checksum <> "
             "flex_checksum({0})",
             FLEX_TRIAL_COLUMNS, parameters(kTrialColumns));
}

std::string insert_sample_sql() {
  return insert_sql("INSERT", "samples", FLEX_SAMPLE_COLUMNS, kSampleColumns);
}

std::string insert_decision_sql() {
  return insert_sql("INSERT OR REPLACE", "decisions", FLEX_DECISION_COLUMNS, kDecisionColumns);
}

}  // namespace flex
