#include "tuner/key_json.h"

#include <chrono>
#include <nlohmann/json.hpp>

#include "base/require.h"
#include "tuner/key_fields.h"

namespace flex {
namespace {

constexpr std::int64_t kNsPerSecond = 1'000'000'000;

struct WriteField {
  nlohmann::ordered_json& object;
  template <class Field>
  void operator()(const char* key, const Field& field) {
    if constexpr (std::is_integral_v<Field> || std::is_same_v<Field, std::string>) {
      object[key] = field;
    } else {
      object[key] = name(field);
    }
  }
};

struct ParseField {
  JsonObject& object;
  template <class Field>
  void operator()(const char* key, Field& field) {
    if constexpr (std::is_same_v<Field, std::int64_t>) {
      field = object.required<std::int64_t>(key, JsonRange::at_least(0));
    } else if constexpr (std::is_integral_v<Field> || std::is_same_v<Field, std::string>) {
      field = object.required<Field>(key);
    } else {
      const auto text = object.required<std::string>(key);
      if (!parse_field(text, field)) object.reject(key, "'{}' is unknown", text);
    }
  }
};

// Digits of a number that stand at [at, at + count).
std::optional<std::int64_t> digits(std::string_view text, std::size_t at, std::size_t count) {
  if (text.size() < at + count) return std::nullopt;
  std::int64_t value = 0;
  for (const char c : text.substr(at, count)) {
    if (c < '0' || c > '9') return std::nullopt;
    value = 10 * value + (c - '0');
  }
  return value;
}

}  // namespace

nlohmann::ordered_json to_json(const TuningKey& key) {
  nlohmann::ordered_json environment;
  for_each_environment_field(key.environment, WriteField{environment});
  nlohmann::ordered_json layer;
  for_each_layer_field(key.layer, WriteField{layer});
  return {{"environment", environment},
          {"layer", layer},
          {"case",
           {{"capacity_bucket", key.one.capacity_bucket},
            {"imbalance_bucket", key.one.imbalance_bucket},
            {"pass", name(key.one.pass)},
            {"given_degree", key.one.given_degree}}}};
}

TuningKey parse_key(JsonObject& object) {
  TuningKey key;
  auto environment = object.required<JsonObject>("environment");
  for_each_environment_field(key.environment, ParseField{environment});
  environment.finish();
  auto layer = object.required<JsonObject>("layer");
  for_each_layer_field(key.layer, ParseField{layer});
  layer.finish();
  auto one = object.required<JsonObject>("case");
  key.one.capacity_bucket = one.required<int>("capacity_bucket", JsonRange::at_least(0));
  key.one.imbalance_bucket = one.required<int>("imbalance_bucket", JsonRange::at_least(0));
  key.one.pass = one.one_of("pass", {"forward", "backward"}) == "forward" ? Pass::kForward : Pass::kBackward;
  key.one.given_degree = one.required<int>("given_degree", JsonRange::at_least(kFreeDegree));
  one.finish();
  return key;
}

nlohmann::ordered_json to_json(const Decision& d) {
  return {{"plan", to_string(d.plan)},
          {"source", name(d.source)},
          {"is_complete", d.is_complete},
          {"strategy", d.strategy},
          {"median_ns", d.median_ns},
          {"default_median_ns", d.default_median_ns},
          {"plan_trial", fmt::format("{:016x}", d.plan_trial)},
          {"default_trial", fmt::format("{:016x}", d.default_trial)},
          {"num_trials", d.num_trials},
          {"decided_at", timestamp_text(d.decided_at_ns)}};
}

std::string timestamp_text(std::int64_t since_1970_ns) {
  using std::chrono::floor;
  const std::chrono::sys_time<std::chrono::nanoseconds> time{std::chrono::nanoseconds(since_1970_ns)};
  const auto day = floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(time - day);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count(),
                     clock.subseconds().count());
}

std::optional<std::int64_t> parse_timestamp(std::string_view text) {
  constexpr std::size_t kSecondsEnd = 19;  // of 2026-11-24T09:30:00
  constexpr std::size_t kMaxDigits = 9;
  const auto year = digits(text, 0, 4);
  const auto month = digits(text, 5, 2);
  const auto day = digits(text, 8, 2);
  const auto hour = digits(text, 11, 2);
  const auto minute = digits(text, 14, 2);
  const auto second = digits(text, 17, 2);
  if (!year || !month || !day || !hour || !minute || !second) return std::nullopt;
  const bool is_marked =
      text[4] == '-' && text[7] == '-' && text[10] == 'T' && text[13] == ':' && text[16] == ':';
  if (!is_marked || *hour > 23 || *minute > 59 || *second > 59 || *year > 2200 || *year < 1970)
    return std::nullopt;
  const std::chrono::year_month_day date(std::chrono::year(static_cast<int>(*year)),
                                         std::chrono::month(static_cast<unsigned>(*month)),
                                         std::chrono::day(static_cast<unsigned>(*day)));
  if (!date.ok()) return std::nullopt;

  std::string_view fraction = text.substr(kSecondsEnd);
  if (!fraction.ends_with('Z')) return std::nullopt;
  fraction.remove_suffix(1);
  std::int64_t fraction_ns = 0;
  if (!fraction.empty()) {
    const std::size_t count = fraction.size() - 1;
    const auto value = digits(fraction, 1, count);
    if (fraction.front() != '.' || count < 1 || count > kMaxDigits || !value) return std::nullopt;
    fraction_ns = *value;
    for (std::size_t i = count; i < kMaxDigits; ++i) fraction_ns *= 10;
  }
  const std::int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
  return (((days * 24 + *hour) * 60 + *minute) * 60 + *second) * kNsPerSecond + fraction_ns;
}

}  // namespace flex
