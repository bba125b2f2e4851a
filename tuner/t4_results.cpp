#include <cmath>
#include <nlohmann/json.hpp>

#include "base/json_object.h"
#include "base/require.h"
#include "tuner/interchange.h"
#include "tuner/key_json.h"

namespace flex {
namespace {

constexpr const char* kT4Version = "1.0.0";
constexpr double kNsPerMs = 1e6;

double ms_of(std::int64_t ns) { return static_cast<double>(ns) / kNsPerMs; }

// T4 has numbers only; below 2^53 ns (104 days) the way there and back is exact.
std::int64_t ns_of(double ms) { return std::llround(ms * kNsPerMs); }

nlohmann::ordered_json result_of(const KeyedTrial& keyed) {
  const Trial& t = keyed.trial;
  nlohmann::ordered_json runtimes = nlohmann::ordered_json::array();
  for (const std::int64_t sample : t.samples_ns) runtimes.push_back(ms_of(sample));
  nlohmann::ordered_json measurements = nlohmann::ordered_json::array();
  if (t.outcome == TrialOutcome::kCorrect) {
    measurements.push_back({{"name", "time"}, {"value", ms_of(t.median_ns)}, {"unit", "ms"}});
    measurements.push_back({{"name", "spread"}, {"value", ms_of(t.spread_ns)}, {"unit", "ms"}});
  }
  nlohmann::ordered_json own = to_json(keyed.key);
  own["source"] = name(t.source);
  own["origin"] = t.origin;
  own["num_tokens"] = t.num_tokens;
  own["capacity"] = t.capacity;
  own["num_warmup"] = t.num_warmup;
  own["num_repeats"] = t.num_repeats;
  own["device_clock_MHz"] = t.device_clock_MHz;
  return {{"timestamp", timestamp_text(t.measured_at_ns)},
          {"configuration",
           {{"parallel_degree", t.plan.parallel_degree},
            {"pipeline_degree", t.plan.pipeline_degree},
            {"all_to_all", name(t.plan.all_to_all)},
            {"expert_kernel", name(t.plan.expert_kernel)}}},
          {"objectives", nlohmann::ordered_json::array({"time"})},
          {"times", {{"runtimes", runtimes}}},
          {"invalidity", name(t.outcome)},
          {"correctness", t.outcome == TrialOutcome::kCorrect ? 1 : 0},
          {"measurements", measurements},
          {"flexmoe", own}};
}

Plan parse_configuration(JsonObject configuration) {
  Plan plan;
  plan.parallel_degree = configuration.required<int>("parallel_degree", JsonRange::at_least(0));
  plan.pipeline_degree = configuration.required<int>("pipeline_degree", JsonRange::at_least(1));
  plan.all_to_all = configuration.one_of("all_to_all", {"linear", "2dh"}) == "linear"
                        ? AllToAllAlgorithm::kLinear
                        : AllToAllAlgorithm::kHierarchical2d;
  plan.expert_kernel = configuration.one_of("expert_kernel", {"padded", "counted"}) == "padded"
                           ? ExpertKernel::kPadded
                           : ExpertKernel::kCounted;
  configuration.finish();
  return plan;
}

// What T4 has no place for.
void parse_own(JsonObject own, KeyedTrial& keyed) {
  keyed.key = parse_key(own);
  Trial& trial = keyed.trial;
  const auto source = parse_trial_source(own.one_of("source", {"simulated", "imported", "measured"}));
  trial.source = source == TrialSource::kSimulated ? *source : TrialSource::kImported;
  trial.origin = own.required<std::string>("origin");
  const JsonRange count = JsonRange::at_least(0);
  trial.num_tokens = own.required<std::int64_t>("num_tokens", count);
  trial.capacity = own.required<std::int64_t>("capacity", count);
  trial.num_warmup = own.required<std::int64_t>("num_warmup", count);
  trial.num_repeats = own.required<std::int64_t>("num_repeats", count);
  trial.device_clock_MHz = own.required<std::int64_t>("device_clock_MHz", count);
  own.finish();
}

KeyedTrial parse_result(JsonObject& result) {
  constexpr double kMaxRuntimeMs = 1e9;  // 11 days: far from where a double loses nanoseconds
  KeyedTrial keyed;
  Trial& trial = keyed.trial;
  trial.plan = parse_configuration(result.required<JsonObject>("configuration"));
  trial.outcome = *parse_trial_outcome(result.one_of(
      "invalidity", {"correct", "timeout", "compile", "runtime", "correctness", "constraints"}));
  (void)result.required<double>("correctness");  // T4 requires it; invalidity says the same and more
  auto times = result.required<JsonObject>("times");
  const auto runtimes =
      times.optional<std::vector<double>>("runtimes", {.min = 0, .max = kMaxRuntimeMs, .above_min = true});
  for (const double ms : runtimes.value_or(std::vector<double>())) trial.samples_ns.push_back(ns_of(ms));
  const auto timestamp = result.required<std::string>("timestamp");
  const auto measured_at = parse_timestamp(timestamp);
  if (!measured_at) result.reject("timestamp", "'{}' is no time like 2026-11-24T09:30:00Z", timestamp);
  trial.measured_at_ns = *measured_at;
  if (!result.contains("flexmoe")) {
    result.reject("flexmoe",
                  "is missing; only what `flexmoe cache export` wrote says to which case it belongs");
  }
  parse_own(result.required<JsonObject>("flexmoe"), keyed);
  summarize(trial);
  try {
    validate(trial);
  } catch (const InputError& error) {
    result.reject("", "{}", error.what());
  }
  return keyed;
}

}  // namespace

nlohmann::ordered_json to_t4(const std::vector<KeyedTrial>& trials) {
  nlohmann::ordered_json results = nlohmann::ordered_json::array();
  for (const KeyedTrial& trial : trials) results.push_back(result_of(trial));
  return {{"results", results}, {"schema_version", kT4Version}};
}

std::vector<KeyedTrial> parse_t4(const nlohmann::json& document, const std::string& where) {
  JsonObject file(document, where);
  const auto version = file.optional<std::string>("schema_version");
  if (version && !version->starts_with("1.")) {
    file.reject("schema_version", "is {}; it must be 1.x.y", *version);
  }
  std::vector<KeyedTrial> trials;
  // T4 is open: what other tools add beside its keys is passed over.
  for (JsonObject& result : file.required<std::vector<JsonObject>>("results")) {
    trials.push_back(parse_result(result));
  }
  return trials;
}

}  // namespace flex
