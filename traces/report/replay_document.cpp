#include "traces/report/replay_document.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "costmodel/prediction.h"

namespace flex {
namespace {

// A list of numbers and nulls.
std::vector<std::optional<double>> numbers_of(const nlohmann::json& list, const JsonObject& object,
                                              std::string_view key) {
  if (!list.is_array()) object.reject(key, "must be a list");
  std::vector<std::optional<double>> numbers;
  numbers.reserve(list.size());
  for (const nlohmann::json& value : list) {
    if (!value.is_null() && !value.is_number()) object.reject(key, "must hold numbers and nulls");
    numbers.push_back(value.is_null() ? std::nullopt : std::optional(value.get<double>()));
  }
  return numbers;
}

std::vector<std::optional<double>> optional_numbers(JsonObject& object, std::string_view key) {
  if (!object.contains(key)) return {};
  return numbers_of(object.raw(key), object, key);
}

ByLayer<double> optional_layers(JsonObject& object, std::string_view key) {
  ByLayer<double> layers;
  if (!object.contains(key)) return layers;
  const nlohmann::json& list = object.raw(key);
  if (!list.is_array()) object.reject(key, "must be a list");
  for (const nlohmann::json& layer : list) layers.push_back(numbers_of(layer, object, key));
  return layers;
}

std::string text_or_nothing(JsonObject& object, std::string_view key) {
  return object.optional<std::string>(key).value_or("");
}

template <class T>
std::vector<T> list_or_nothing(JsonObject& object, std::string_view key) {
  return object.optional<std::vector<T>>(key).value_or(std::vector<T>());
}

ReportPolicy parse_policy(JsonObject object) {
  ReportPolicy policy{.name = object.required<std::string>("policy"),
                      .resolved = text_or_nothing(object, "resolved"),
                      .total_us = object.required<double>("total_us", JsonRange::at_least(0)),
                      .error_us = object.optional<double>("error_us", JsonRange::at_least(0)),
                      .speedup_over_default = object.optional<double>("speedup_over_default"),
                      .speedup_over_best_static = object.optional<double>("speedup_over_best_static"),
                      .regret_us = object.optional<double>("regret_us"),
                      .regret_share = object.optional<double>("regret_share"),
                      .plan_changes = object.optional<std::int64_t>("plan_changes")};
  if (auto memory = object.optional<JsonObject>("memory")) {
    policy.peak_bytes = memory->optional<std::int64_t>("peak_bytes");
    policy.fits = memory->optional<bool>("fits");
    policy.infeasible_steps = memory->optional<std::int64_t>("infeasible_steps");
  }
  if (auto classes = object.optional<JsonObject>("class_us")) {
    for (int c = 0; c < kNumOperationClasses; ++c) {
      const std::string key(name(static_cast<OperationClass>(c)));
      policy.class_us.emplace_back(key, classes->optional<double>(key).value_or(0));
    }
  }
  for (JsonObject& plan :
       object.optional<std::vector<JsonObject>>("plans").value_or(std::vector<JsonObject>())) {
    policy.plans.push_back(plan.required<std::string>("plans"));
  }
  if (auto series = object.optional<JsonObject>("series")) {
    policy.step_us = optional_numbers(*series, "total_us");
    policy.step_regret_us = optional_numbers(*series, "regret_us");
    policy.plan = optional_layers(*series, "plan");
  }
  return policy;
}

ReportTimeline parse_timeline(JsonObject object) {
  ReportTimeline timeline{.policy = object.required<std::string>("policy"),
                          .step = object.required<std::int64_t>("step"),
                          .layer = object.required<std::int64_t>("layer"),
                          .plans = text_or_nothing(object, "plans"),
                          .total_us = object.required<double>("total_us", JsonRange::at_least(0)),
                          .num_ranks = list_or_nothing<std::int64_t>(object, "ranks").size(),
                          .world = object.optional<std::int64_t>("world").value_or(0)};
  for (JsonObject& span : object.required<std::vector<JsonObject>>("spans")) {
    timeline.spans.push_back({.rank = span.required<int>("rank"),
                              .stream = span.required<std::string>("stream"),
                              .pass = text_or_nothing(span, "pass"),
                              .name = span.required<std::string>("name"),
                              .start_us = span.required<double>("start_us"),
                              .end_us = span.required<double>("end_us"),
                              .chunk = span.optional<std::int64_t>("chunk")});
  }
  return timeline;
}

ReportLoad parse_load(JsonObject object) {
  ReportLoad load{
      .layers = object.required<std::vector<std::int64_t>>("layers"),
      .first_step = object.required<std::vector<std::int64_t>>("first_step"),
      .steps_per_bin = object.required<std::int64_t>("steps_per_bin", JsonRange::at_least(1)),
      .experts_per_cell = object.required<std::int64_t>("experts_per_cell", JsonRange::at_least(1))};
  const nlohmann::json& layers = object.raw("share");
  if (!layers.is_array()) object.reject("share", "must be a list");
  for (const nlohmann::json& bins : layers) {
    if (!bins.is_array()) object.reject("share", "must be lists of lists of lists");
    std::vector<std::vector<double>> layer;
    for (const nlohmann::json& cells : bins) {
      std::vector<double> bin;
      for (const auto& cell : numbers_of(cells, object, "share")) bin.push_back(cell.value_or(0));
      layer.push_back(std::move(bin));
    }
    load.share.push_back(std::move(layer));
  }
  if (load.share.size() != load.layers.size()) object.reject("share", "must have as many entries as layers");
  return load;
}

ReportScenario parse_scenario(JsonObject object) {
  ReportScenario scenario{.name = object.required<std::string>("name"),
                          .cluster = text_or_nothing(object, "cluster"),
                          .nodes = object.optional<std::int64_t>("nodes").value_or(0),
                          .world = object.optional<std::int64_t>("world").value_or(0),
                          .changes = list_or_nothing<std::string>(object, "changes"),
                          .reshard = text_or_nothing(object, "reshard")};
  if (auto calibration = object.optional<JsonObject>("calibration")) {
    scenario.calibration = text_or_nothing(*calibration, "description");
    scenario.fitted = calibration->optional<bool>("fitted").value_or(true);
  }
  if (auto dropped = object.optional<JsonObject>("dropped")) {
    scenario.dropped = dropped->optional<std::int64_t>("choices");
    scenario.dropped_share = dropped->optional<double>("share");
  }
  for (JsonObject& policy : object.required<std::vector<JsonObject>>("policies")) {
    scenario.policies.push_back(parse_policy(std::move(policy)));
  }
  if (scenario.policies.empty()) object.reject("policies", "is empty; a replay runs at least one");
  if (auto steps = object.optional<JsonObject>("steps")) {
    scenario.first_step = list_or_nothing<std::int64_t>(*steps, "first");
    scenario.steps_per_point =
        steps->optional<std::int64_t>("steps_per_point", JsonRange::at_least(1)).value_or(1);
  }
  scenario.needed_capacity = optional_layers(object, "needed_capacity");
  scenario.capacity = optional_layers(object, "capacity");
  if (auto load = object.optional<JsonObject>("expert_load")) scenario.load = parse_load(std::move(*load));
  if (auto timeline = object.optional<JsonObject>("timeline")) {
    scenario.timeline = parse_timeline(std::move(*timeline));
  }
  return scenario;
}

}  // namespace

double ReportPolicy::exchange_share() const {
  double exchange_us = 0;
  double all_us = 0;
  for (const auto& [key, us] : class_us) {
    all_us += us;
    if (key == flex::name(OperationClass::kExchange)) exchange_us = us;
  }
  return all_us > 0 ? exchange_us / all_us : 0;
}

std::size_t ReportScenario::main_policy() const {
  const auto online = std::ranges::find(policies, "online", &ReportPolicy::name);
  if (online != policies.end()) return static_cast<std::size_t>(online - policies.begin());
  std::optional<std::size_t> best;
  const auto is_choice = [&](const ReportPolicy& policy) {
    return !policy.is_static() && policy.name != "best-static" && policy.name != "oracle";
  };
  for (std::size_t i = 0; i < policies.size(); ++i) {
    if (is_choice(policies[i]) && (!best || policies[i].total_us < policies[*best].total_us)) best = i;
  }
  if (best) return *best;
  const auto fastest = std::ranges::min_element(policies, {}, &ReportPolicy::total_us);
  return static_cast<std::size_t>(fastest - policies.begin());
}

ReplayDocument parse_replay_document(JsonObject document) {
  const auto version = document.required<std::int64_t>("version", JsonRange::at_least(1));
  if (version > kNewestReplayDocument) {
    document.reject("version",
                    "is {}; this program reads up to {}: use the one that wrote it, or a newer one", version,
                    kNewestReplayDocument);
  }
  auto trace = document.required<JsonObject>("trace");
  ReplayDocument replay{.trace = text_or_nothing(trace, "file"),
                        .model = text_or_nothing(trace, "model"),
                        .hardware = text_or_nothing(trace, "hardware"),
                        .source = text_or_nothing(trace, "source"),
                        .damage = text_or_nothing(trace, "damage"),
                        .world = trace.optional<std::int64_t>("world").value_or(0),
                        .steps = trace.optional<std::int64_t>("steps").value_or(0),
                        .iterations = trace.optional<std::int64_t>("iterations").value_or(0)};
  for (JsonObject& layer :
       trace.optional<std::vector<JsonObject>>("layers").value_or(std::vector<JsonObject>())) {
    replay.experts.push_back(layer.optional<std::int64_t>("experts", JsonRange::at_least(1)).value_or(0));
  }
  replay.layers = static_cast<std::int64_t>(replay.experts.size());
  for (JsonObject& scenario : document.required<std::vector<JsonObject>>("scenarios")) {
    replay.scenarios.push_back(parse_scenario(std::move(scenario)));
  }
  if (replay.scenarios.empty()) document.reject("scenarios", "is empty; a replay has at least one");
  for (JsonObject& point :
       document.optional<std::vector<JsonObject>>("scaling").value_or(std::vector<JsonObject>())) {
    replay.scaling.push_back({.scenario = text_or_nothing(point, "scenario"),
                              .ranks = point.required<std::int64_t>("ranks", JsonRange::at_least(1)),
                              .policy = point.required<std::string>("policy"),
                              .total_us = point.required<double>("total_us", JsonRange::at_least(0))});
  }
  return replay;
}

}  // namespace flex
