#include "tuner/cache_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "tuner/cache_sql.h"
#include "tuner/key_fields.h"

namespace flex {
namespace {

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
      insert_environment_(database_.prepare(insert_environment_sql())),
      insert_layer_(database_.prepare(insert_layer_sql())),
      insert_trial_(database_.prepare(insert_trial_sql())),
      insert_decision_(database_.prepare(insert_decision_sql())),
      trials_of_case_(database_.prepare("SELECT " FLEX_TRIAL_COLUMNS
                                        ", checksum FROM trials WHERE " FLEX_OF_CASE
                                        " ORDER BY measured_at_ns, id")),
      decision_of_case_(
          database_.prepare("SELECT " FLEX_DECISION_COLUMNS ", checksum FROM decisions WHERE " FLEX_OF_CASE)),
      decisions_of_environment_(database_.prepare("SELECT " FLEX_DECISION_COLUMNS
                                                  ", checksum FROM decisions WHERE environment = ?1")) {}

void CacheStore::put_environment(const Environment& environment) {
  BindField bind_environment{insert_environment_};
  for_each_environment_field(environment, bind_environment);
  insert_environment_.run();
}

void CacheStore::put_key(const TuningKey& key) {
  put_environment(key.environment);
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
  const FieldList fields = environment_fields();
  database_.prepare(fmt::format("SELECT {}, id FROM environments", fields.names))
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
  const FieldList fields = layer_fields();
  database_.prepare(fmt::format("SELECT {}, id FROM layers", fields.names)).each([&](const Statement& row) {
    TunedLayer layer;
    ReadField read{row};
    for_each_layer_field(layer, read);
    const bool is_good = has_right_checksum(row, fields.count) && read.is_valid;
    if (is_good) layers.emplace(static_cast<std::uint64_t>(row.integer(fields.count)), layer);
    num_bad_rows_ += is_good ? 0 : 1;
  });
  return layers;
}

}  // namespace flex
