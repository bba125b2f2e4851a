#include "tuner/cache_store.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/require.h"
#include "tuner/key_fields.h"

namespace flex {
namespace {

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
#define FLEX_OF_CASE                                                                                  \
  "environment = ?1 AND layer = ?2 AND pass = ?3 AND given_degree = ?4 AND capacity_bucket = ?5 AND " \
  "imbalance_bucket = ?6"
constexpr int kCaseColumns = 6;
constexpr int kTrialColumns = 20;
constexpr int kDecisionColumns = 16;

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

struct FieldNames {
  std::string list;  ///< "name, name"
  int count = 0;
  template <class Field>
  void operator()(const char* name, const Field&) {
    list += std::string(count == 0 ? "" : ", ") + name;
    ++count;
  }
};

FieldNames environment_fields() {
  FieldNames names;
  const Environment none;
  for_each_environment_field(none, [&](const char* name, const auto& field) { names(name, field); });
  return names;
}

FieldNames layer_fields() {
  FieldNames names;
  const TunedLayer none;
  for_each_layer_field(none, [&](const char* name, const auto& field) { names(name, field); });
  return names;
}

// An environment or a layer: its id is the checksum. A row that went bad is put right.
std::string insert_by_id_sql(const char* table, const FieldNames& fields) {
  const std::string values = parameters(fields.count);
  return fmt::format(
      "INSERT INTO {0} (id, {1}) VALUES (flex_checksum({2}), {2}) ON CONFLICT DO UPDATE SET ({1}) = "
      "({2}) WHERE id <> flex_checksum({1})",
      table, fields.list, values);
}

std::string insert_trial_sql() {
  return insert_sql("INSERT", "trials", FLEX_TRIAL_COLUMNS, kTrialColumns) +
         fmt::format(
             " ON CONFLICT DO UPDATE SET ({0}, checksum) = ({1}, flex_checksum({1})) WHERE checksum <> "
             "flex_checksum({0})",
             FLEX_TRIAL_COLUMNS, parameters(kTrialColumns));
}

struct BindField {
  Statement& statement;
  int index = 0;
  template <class Field>
  void operator()(const char*, const Field& field) {
    ++index;
    if constexpr (std::is_same_v<Field, std::string>) {
      statement.bind_one(index, std::string_view(field));
    } else if constexpr (std::is_integral_v<Field>) {
      statement.bind_one(index, static_cast<std::int64_t>(field));
    } else {
      statement.bind_one(index, name(field));
    }
  }
};

struct ReadField {
  const Statement& row;
  int column = 0;
  bool is_valid = true;
  template <class Field>
  void operator()(const char*, Field& field) {
    if constexpr (std::is_same_v<Field, std::string>) {
      field = row.text(column);
    } else if constexpr (std::is_integral_v<Field>) {
      field = static_cast<Field>(row.integer(column));
    } else {
      is_valid = parse_field(row.text(column), field) && is_valid;
    }
    ++column;
  }
};

std::optional<CaseId> case_of_row(std::span<const std::int64_t> row) {
  const std::int64_t pass = row[2];
  if (pass < 0 || pass > 1) return std::nullopt;
  for (const std::int64_t value : row.subspan(3, 3)) {
    if (!std::in_range<std::int32_t>(value)) return std::nullopt;
  }
  return CaseId{.environment = static_cast<std::uint64_t>(row[0]),
                .layer = static_cast<std::uint64_t>(row[1]),
                .one = {.capacity_bucket = static_cast<std::int32_t>(row[4]),
                        .imbalance_bucket = static_cast<std::int32_t>(row[5]),
                        .pass = pass == 0 ? Pass::kForward : Pass::kBackward,
                        .given_degree = static_cast<std::int32_t>(row[3])}};
}

template <class... Values>
Statement& bind_case(Statement& statement, const CaseId& id, const Values&... values) {
  return statement.bind(static_cast<std::int64_t>(id.environment), static_cast<std::int64_t>(id.layer),
                        std::int64_t{id.one.pass == Pass::kBackward}, std::int64_t{id.one.given_degree},
                        std::int64_t{id.one.capacity_bucket}, std::int64_t{id.one.imbalance_bucket},
                        values...);
}

bool has_right_checksum(const Statement& row, int count) {
  return row.checksum(count, {}) == static_cast<std::uint64_t>(row.integer(count));
}

}  // namespace

CaseId id_of(const TuningKey& key) { return {environment_id(key.environment), layer_id(key.layer), key.one}; }

CacheStore::CacheStore(Database database)
    : database_(std::move(database)),
      insert_environment_(database_.prepare(insert_by_id_sql("environments", environment_fields()))),
      insert_layer_(database_.prepare(insert_by_id_sql("layers", layer_fields()))),
      insert_trial_(database_.prepare(insert_trial_sql())),
      insert_decision_(database_.prepare(
          insert_sql("INSERT OR REPLACE", "decisions", FLEX_DECISION_COLUMNS, kDecisionColumns))),
      trials_of_case_(database_.prepare("SELECT " FLEX_TRIAL_COLUMNS
                                        ", checksum FROM trials WHERE " FLEX_OF_CASE
                                        " ORDER BY measured_at_ns, id")),
      decision_of_case_(
          database_.prepare("SELECT " FLEX_DECISION_COLUMNS ", checksum FROM decisions WHERE " FLEX_OF_CASE)),
      decisions_of_environment_(database_.prepare("SELECT " FLEX_DECISION_COLUMNS
                                                  ", checksum FROM decisions WHERE environment = ?1")) {}

void CacheStore::put_key(const TuningKey& key) {
  BindField bind_environment{insert_environment_};
  for_each_environment_field(key.environment, bind_environment);
  insert_environment_.run();
  BindField bind_layer{insert_layer_};
  for_each_layer_field(key.layer, bind_layer);
  insert_layer_.run();
}

bool CacheStore::put_trial(const CaseId& id, std::uint64_t trial, const Trial& t) {
  const std::string plan = to_string(t.plan);
  bind_case(insert_trial_, id, static_cast<std::int64_t>(trial), std::string_view(plan), name(t.outcome),
            name(t.source), std::string_view(t.origin), t.num_tokens, t.capacity, t.num_warmup, t.num_repeats,
            std::as_bytes(std::span(t.samples_ns)), t.median_ns, t.spread_ns, t.measured_at_ns,
            t.device_clock_MHz)
      .run();
  return database_.num_changes() > 0;
}

void CacheStore::put_decision(const CaseId& id, const Decision& d) {
  const std::string plan = to_string(d.plan);
  bind_case(insert_decision_, id, std::string_view(plan), name(d.source), std::int64_t{d.is_complete},
            std::string_view(d.strategy), d.median_ns, d.default_median_ns,
            static_cast<std::int64_t>(d.plan_trial), static_cast<std::int64_t>(d.default_trial), d.num_trials,
            d.decided_at_ns)
      .run();
}

std::optional<Plan> CacheStore::parse_stored_plan(std::string_view text) {
  if (text != last_plan_text_) {
    try {
      last_plan_ = parse_plan(text);
    } catch (const InputError&) {
      return std::nullopt;  // the file is not the user's input: a bad row is a miss
    }
    last_plan_text_ = text;
  }
  return last_plan_;
}

std::optional<Trial> CacheStore::read_trial(const Statement& row) {
  constexpr int kPlan = kCaseColumns + 1;
  std::array<std::int64_t, kTrialColumns> integers;
  const bool is_right =
      row.checksum(kTrialColumns, integers) == static_cast<std::uint64_t>(row.integer(kTrialColumns));
  const auto plan = parse_stored_plan(row.text(kPlan));
  const auto outcome = parse_trial_outcome(row.text(kPlan + 1));
  const auto source = parse_trial_source(row.text(kPlan + 2));
  const auto samples = row.bytes(kPlan + 8);
  ++num_bad_rows_;  // until it has proved right
  if (!is_right || !plan || !outcome || !source || samples.size() % sizeof(std::int64_t) != 0)
    return std::nullopt;
  Trial trial{.plan = *plan,
              .outcome = *outcome,
              .source = *source,
              .origin = std::string(row.text(kPlan + 3)),
              .num_tokens = integers[kPlan + 4],
              .capacity = integers[kPlan + 5],
              .num_warmup = integers[kPlan + 6],
              .num_repeats = integers[kPlan + 7],
              .device_clock_MHz = integers[kPlan + 12],
              .samples_ns = std::vector<std::int64_t>(samples.size() / sizeof(std::int64_t)),
              .median_ns = integers[kPlan + 9],
              .spread_ns = integers[kPlan + 10],
              .measured_at_ns = integers[kPlan + 11]};
  if (!samples.empty()) std::memcpy(trial.samples_ns.data(), samples.data(), samples.size());
  if (why_invalid(trial)) return std::nullopt;
  --num_bad_rows_;
  return trial;
}

std::vector<Trial> CacheStore::trials(const CaseId& id) {
  std::vector<Trial> trials;
  bind_case(trials_of_case_, id).each([&](const Statement& row) {
    if (auto trial = read_trial(row)) trials.push_back(*std::move(trial));
  });
  return trials;
}

std::optional<std::pair<CaseId, Decision>> CacheStore::read_decision(const Statement& row) {
  constexpr int kPlan = kCaseColumns;
  std::array<std::int64_t, kDecisionColumns> integers;
  const bool is_right =
      row.checksum(kDecisionColumns, integers) == static_cast<std::uint64_t>(row.integer(kDecisionColumns));
  const auto id = case_of_row(integers);
  const auto source = parse_trial_source(row.text(kPlan + 1));
  const auto plan = parse_stored_plan(row.text(kPlan));
  if (!is_right || !id || !source || !plan) {
    ++num_bad_rows_;
    return std::nullopt;
  }
  return std::pair(*id, Decision{.plan = *plan,
                                 .source = *source,
                                 .is_complete = integers[kPlan + 2] != 0,
                                 .strategy = std::string(row.text(kPlan + 3)),
                                 .median_ns = integers[kPlan + 4],
                                 .default_median_ns = integers[kPlan + 5],
                                 .plan_trial = static_cast<std::uint64_t>(integers[kPlan + 6]),
                                 .default_trial = static_cast<std::uint64_t>(integers[kPlan + 7]),
                                 .num_trials = integers[kPlan + 8],
                                 .decided_at_ns = integers[kPlan + 9]});
}

std::optional<Decision> CacheStore::decision(const CaseId& id) {
  std::optional<Decision> found;
  bind_case(decision_of_case_, id).each([&](const Statement& row) {
    if (auto one = read_decision(row)) found = std::move(one->second);
  });
  return found;
}

std::vector<CaseId> CacheStore::cases() {
  std::vector<CaseId> cases;
  database_
      .prepare("SELECT DISTINCT " FLEX_CASE_COLUMNS " FROM trials UNION SELECT " FLEX_CASE_COLUMNS
               " FROM decisions")
      .each([&](const Statement& row) {
        std::array<std::int64_t, kCaseColumns> integers;
        (void)row.checksum(kCaseColumns, integers);
        if (const auto id = case_of_row(integers)) cases.push_back(*id);
      });
  std::ranges::sort(cases);
  return cases;
}

std::unordered_map<std::uint64_t, Environment> CacheStore::environments() {
  std::unordered_map<std::uint64_t, Environment> environments;
  const FieldNames fields = environment_fields();
  database_.prepare(fmt::format("SELECT {}, id FROM environments", fields.list))
      .each([&](const Statement& row) {
        Environment environment;
        ReadField read{row};
        for_each_environment_field(environment, read);
        const bool is_good = has_right_checksum(row, fields.count) && read.is_valid;
        if (is_good) environments.emplace(static_cast<std::uint64_t>(row.integer(fields.count)), environment);
        num_bad_rows_ += is_good ? 0 : 1;
      });
  return environments;
}

std::unordered_map<std::uint64_t, TunedLayer> CacheStore::layers() {
  std::unordered_map<std::uint64_t, TunedLayer> layers;
  const FieldNames fields = layer_fields();
  database_.prepare(fmt::format("SELECT {}, id FROM layers", fields.list)).each([&](const Statement& row) {
    TunedLayer layer;
    ReadField read{row};
    for_each_layer_field(layer, read);
    const bool is_good = has_right_checksum(row, fields.count) && read.is_valid;
    if (is_good) layers.emplace(static_cast<std::uint64_t>(row.integer(fields.count)), layer);
    num_bad_rows_ += is_good ? 0 : 1;
  });
  return layers;
}

std::int64_t CacheStore::remove_trials_before(std::int64_t time_ns) {
  database_
      .prepare(
          "DELETE FROM trials WHERE measured_at_ns < ?1 AND id NOT IN (SELECT plan_trial FROM decisions "
          "UNION "
          "SELECT default_trial FROM decisions)")
      .bind(time_ns)
      .run();
  return database_.num_changes();
}

std::int64_t CacheStore::remove_other_builds(const std::string& build) {
  std::int64_t count = 0;
  for (const char* table : {"trials", "decisions"}) {
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
  const auto is_bad_id = [](const FieldNames& fields) {
    return fmt::format("id <> flex_checksum({})", fields.list);
  };
  const std::string environment = is_bad_id(environment_fields());
  const std::string layer = is_bad_id(layer_fields());
  std::int64_t count = 0;
  for (const auto& [table, columns] :
       {std::pair{"trials", FLEX_TRIAL_COLUMNS}, std::pair{"decisions", FLEX_DECISION_COLUMNS}}) {
    database_.execute(
        fmt::format("DELETE FROM {} WHERE checksum <> flex_checksum({}) OR environment NOT IN (SELECT id "
                    "FROM environments "
                    "WHERE NOT {}) OR layer NOT IN (SELECT id FROM layers WHERE NOT {})",
                    table, columns, environment, layer));
    count += database_.num_changes();
  }
  database_.execute(fmt::format("DELETE FROM environments WHERE {}", environment));
  database_.execute(fmt::format("DELETE FROM layers WHERE {}", layer));
  return count;
}

}  // namespace flex
