#include "traces/replay/replay_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "traces/replay/scenario_json.h"

namespace flex {
namespace {

using Json = nlohmann::ordered_json;

std::string text_of(const TraceOrigin& origin) {
  std::string text(name(origin.source));
  for (const std::string& part : {origin.workload, origin.policy}) {
    if (!part.empty()) text += " " + part;
  }
  if (origin.world) text += " from " + std::to_string(*origin.world) + " ranks";
  if (origin.seed) text += " seed " + std::to_string(*origin.seed);
  if (!origin.file.empty()) text += " of " + origin.file;
  return text;
}

Json layer_json(const TraceLayer& layer) {
  const Workload& w = layer.workload;
  return {
      {"experts", w.num_experts}, {"top_k", w.top_k},           {"capacity_factor", layer.capacity_factor},
      {"model_dim", w.model_dim}, {"hidden_dim", w.hidden_dim}, {"dtype", name(w.dtype)},
      {"tokens", w.num_tokens}};
}

Json trace_json(const std::string& file, const IterationTrace& trace) {
  Json origins = Json::array();
  for (const TraceOrigin& origin : trace.header.origins) origins.push_back(text_of(origin));
  Json layers = Json::array();
  for (const TraceLayer& layer : trace.header.layers) layers.push_back(layer_json(layer));
  std::set<std::int64_t> steps;
  std::int64_t backward = 0;
  std::int64_t timed = 0;
  for (const TraceIteration& one : trace.iterations) {
    steps.insert(one.step);
    backward += one.has_backward ? 1 : 0;
    timed += (one.forward_ns ? 1 : 0) + (one.backward_ns ? 1 : 0);
  }
  return {{"file", file},
          {"model", trace.header.model},
          {"hardware", trace.header.hardware},
          {"source", name(trace.header.origins.front().source)},
          {"origins", origins},
          {"world", trace.header.world},
          {"ranks_per_node", trace.header.ranks_per_node},
          {"layers", layers},
          {"first_step", *steps.begin()},
          {"last_step", *steps.rbegin()},
          {"steps", steps.size()},
          {"iterations", trace.iterations.size()},
          {"backward_iterations", backward},
          {"timed_passes", timed},
          {"dropped_records", trace.num_dropped ? Json(*trace.num_dropped) : Json()},
          {"damage", trace.damage ? Json(*trace.damage) : Json()}};
}

Json scaling_json(std::span<const ScenarioResult> results) {
  std::set<int> worlds;
  for (const ScenarioResult& result : results) worlds.insert(result.machine.cluster.world());
  Json scaling = Json::array();
  if (worlds.size() < 2) return scaling;
  for (const ScenarioResult& result : results) {
    for (const PolicyResult& policy : result.policies) {
      scaling.push_back({{"scenario", result.scenario.name},
                         {"ranks", result.machine.cluster.world()},
                         {"policy", to_string(policy.policy)},
                         {"total_us", policy.total_us}});
    }
  }
  return scaling;
}

}  // namespace

Json replay_json(const std::string& file, const IterationTrace& trace,
                 std::span<const ScenarioResult> results, const ReplayOptions& options) {
  Json scenarios = Json::array();
  for (const ScenarioResult& result : results) scenarios.push_back(scenario_json(result));
  return {{"flexmoe", "replay"},
          {"version", kReplayDocumentVersion},
          {"trace", trace_json(file, trace)},
          {"options",
           {{"seed", options.seed},
            {"noise", options.noise.sigma},
            {"model_error", options.model_error},
            {"memory_limit_bytes", options.memory_limit_bytes ? Json(*options.memory_limit_bytes) : Json()}}},
          {"scenarios", scenarios},
          {"scaling", scaling_json(results)}};
}

}  // namespace flex
