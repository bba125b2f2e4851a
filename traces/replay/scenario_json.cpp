#include "traces/replay/scenario_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "traces/replay/replay_series.h"

namespace flex {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMaxPlans = 256;

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

template <class T>
Json series_json(const LayerSeries<T>& series) {
  Json json = Json::array();
  for (const auto& layer : series) {
    Json points = Json::array();
    for (const std::optional<T>& value : layer) points.push_back(or_null(value));
    json.push_back(std::move(points));
  }
  return json;
}

double share(std::int64_t part, std::int64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}

Json dropped_json(const ScenarioResult& result) {
  std::vector<std::pair<std::int64_t, std::int64_t>> layers(result.trace.header.layers.size());
  for (const ReplayIteration& one : result.trace.iterations) {
    auto& [dropped, choices] = layers[static_cast<std::size_t>(one.layer)];
    dropped += one.num_dropped;
    choices += one.num_choices;
  }
  Json by_layer = Json::array();
  for (const auto& [dropped, choices] : layers) {
    by_layer.push_back({{"choices", dropped}, {"share", share(dropped, choices)}});
  }
  return {{"choices", result.num_dropped},
          {"share", share(result.num_dropped, result.num_choices)},
          {"by_layer", by_layer}};
}

Json expert_load_json(const ExpertLoadMap& map) {
  Json shares = Json::array();
  for (const auto& bins : map.choices) {
    Json layer = Json::array();
    for (const std::vector<std::int64_t>& cells : bins) {
      std::int64_t all = 0;
      for (const std::int64_t cell : cells) all += cell;
      Json bin = Json::array();
      for (const std::int64_t cell : cells) bin.push_back(share(cell, all));
      layer.push_back(std::move(bin));
    }
    shares.push_back(std::move(layer));
  }
  return {{"layers", map.layers},
          {"first_step", map.first_step},
          {"steps_per_bin", map.steps_per_bin},
          {"experts_per_cell", map.experts_per_cell},
          {"share", shares}};
}

Json timeline_json(const Timeline& timeline) {
  Json spans = Json::array();
  for (const TimelineSpan& span : timeline.spans) {
    spans.push_back({{"rank", span.rank},
                     {"stream", name(span.stream)},
                     {"pass", name(span.pass)},
                     {"name", span.name},
                     {"start_us", span.start_us},
                     {"end_us", span.end_us},
                     {"chunk", or_null(span.chunk)}});
  }
  return {{"policy", to_string(timeline.policy)},
          {"step", timeline.step},
          {"layer", timeline.layer},
          {"plans", to_string(timeline.plans)},
          {"total_us", timeline.total_us},
          {"ranks", timeline.ranks},
          {"world", timeline.world},
          {"spans", spans}};
}

/// The first plans, and the rest in one.
Json plans_json(const PolicyResult& result) {
  Json plans = Json::array();
  PlanUse other;
  for (std::size_t i = 0; i < result.plans.size(); ++i) {
    const PlanUse& use = result.plans[i];
    if (i + 1 < kMaxPlans || result.plans.size() <= kMaxPlans) {
      plans.push_back(
          {{"plans", to_string(use.plans)}, {"iterations", use.iterations}, {"total_us", use.total_us}});
      continue;
    }
    other.iterations += use.iterations;
    other.total_us += use.total_us;
  }
  if (other.iterations > 0) {
    plans.push_back({{"plans", "other"}, {"iterations", other.iterations}, {"total_us", other.total_us}});
  }
  return plans;
}

Json policy_series_json(const PolicyResult& result, const ScenarioTrace& trace, const SeriesPoints& points,
                        const PolicyResult* oracle) {
  const std::vector<double> total_us = step_means(points, result.iteration_us);
  Json regret;
  if (oracle != nullptr) {
    regret = Json::array();
    const std::vector<double> least_us = step_means(points, oracle->iteration_us);
    for (std::size_t i = 0; i < total_us.size(); ++i) regret.push_back(total_us[i] - least_us[i]);
  }
  LayerSeries<std::int32_t> plans = first_plans(trace, points, result);
  const auto last = static_cast<std::int32_t>(std::min(result.plans.size(), kMaxPlans)) - 1;
  for (auto& layer : plans) {
    for (std::optional<std::int32_t>& plan : layer) {
      if (plan) plan = std::min(*plan, last);
    }
  }
  return {{"total_us", total_us}, {"regret_us", regret}, {"plan", series_json(plans)}};
}

template <class Name, std::size_t kCount>
Json named_json(const std::array<double, kCount>& values) {
  Json json = Json::object();
  for (std::size_t i = 0; i < kCount; ++i) json[std::string(name(static_cast<Name>(i)))] = values[i];
  return json;
}

Json policy_json(const PolicyResult& result, const ScenarioTrace& trace, const SeriesPoints& points,
                 const PolicyResult* oracle) {
  Json layers = Json::array();
  for (const LayerTotals& layer : result.layers) {
    layers.push_back({{"total_us", layer.total_us},
                      {"regret_us", or_null(layer.regret_us)},
                      {"plan_changes", layer.plan_changes}});
  }
  Json resolved;
  if (result.resolved) resolved = to_string(PolicySpec{PolicyKind::kStatic, *result.resolved});
  return {{"policy", to_string(result.policy)},
          {"resolved", resolved},
          {"total_us", result.total_us},
          {"error_us", result.error_us},
          {"speedup_over_default", or_null(result.speedup_over_default)},
          {"speedup_over_best_static", or_null(result.speedup_over_best_static)},
          {"regret_us", or_null(result.regret_us)},
          {"regret_share", or_null(result.regret_share)},
          {"memory",
           {{"peak_bytes", result.memory.peak_bytes},
            {"fits", or_null(result.memory.fits)},
            {"infeasible_steps", result.memory.infeasible_steps}}},
          {"class_us", named_json<OperationClass>(result.class_us)},
          {"origin_us", named_json<CostOrigin>(result.origin_us)},
          {"forward_us", result.forward_us},
          {"backward_us", result.backward_us},
          {"layers", layers},
          {"plans", plans_json(result)},
          {"plan_changes", result.plan_changes},
          {"measured_us", or_null(result.measured_us)},
          {"series", policy_series_json(result, trace, points, oracle)}};
}

}  // namespace

Json scenario_json(const ScenarioResult& result) {
  const ScenarioTrace& trace = result.trace;
  const Cluster& cluster = result.machine.cluster;
  const Calibration& calibration = result.machine.calibration;
  const SeriesPoints points = series_points(trace);
  const auto oracle =
      std::ranges::find_if(result.policies, [](const PolicyResult& one) { return one.policy.is_oracle(); });
  Json policies = Json::array();
  for (const PolicyResult& policy : result.policies) {
    policies.push_back(
        policy_json(policy, trace, points, oracle == result.policies.end() ? nullptr : &*oracle));
  }
  return {{"name", result.scenario.name},
          {"cluster", cluster.name},
          {"nodes", cluster.nodes},
          {"ranks_per_node", cluster.ranks_per_node},
          {"world", cluster.world()},
          {"device_memory_bytes", or_null(rank_memory_bytes(cluster))},
          {"calibration",
           {{"cluster", calibration.cluster},
            {"description", calibration.description},
            {"source", calibration.source},
            {"fitted", calibration.fitted}}},
          {"changes", result.scenario.changes},
          {"reshard", trace.reshard ? Json(name(*trace.reshard)) : Json()},
          {"choices", result.num_choices},
          {"dropped", dropped_json(result)},
          {"policies", policies},
          {"steps", {{"first", points.first_step}, {"steps_per_point", points.steps_per_point}}},
          {"needed_capacity", series_json(largest<std::int64_t>(
                                  trace, points, [](const auto& one) { return one.needed_capacity; }))},
          {"capacity", series_json(largest<std::int64_t>(
                           trace, points,
                           [&](const ReplayIteration& one) {
                             return trace.loads[static_cast<std::size_t>(one.load)].load.workload.capacity;
                           }))},
          {"max_over_mean",
           series_json(largest<double>(trace, points, [](const auto& one) { return one.max_over_mean; }))},
          {"expert_load", expert_load_json(trace.expert_load)},
          {"timeline", result.timeline ? timeline_json(*result.timeline) : Json()}};
}

}  // namespace flex
