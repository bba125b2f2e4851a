#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "traces/generate.h"
#include "traces/replay/replay.h"

/// Traces and scenarios that the tests of the replay share.
namespace flex::testing {

/// A layer of 8 experts on 16 ranks, in two nodes of azure_ndv4_a100: two ranks share an expert.
inline TraceLayer sixteen_ranks(double capacity_factor) {
  return {.workload = {.world = 16,
                       .num_experts = 8,
                       .num_tokens = 256,
                       .top_k = 2,
                       .model_dim = 512,
                       .hidden_dim = 2048,
                       .dtype = DType::kBF16,
                       .dropless = capacity_factor <= 0},
          .capacity_factor = capacity_factor};
}

inline TraceHeader header_of(std::vector<TraceLayer> layers, int ranks_per_node = 8) {
  const int world = layers.front().workload.world;
  return {.model = "a model",
          .world = world,
          .ranks_per_node = ranks_per_node,
          .layers = std::move(layers),
          .origins = {{.source = TraceSource::kRecorded}}};
}

inline IterationTrace collect(const GenerateOptions& options) {
  IterationCollector collector(options.header);
  generate(options, [&](TraceRecord&& record) { collector.add(std::move(record)); });
  return std::move(collector).take();
}

/// A named imbalance on 16 ranks.
inline IterationTrace generated(ImbalanceWorkload imbalance, std::int64_t steps, double capacity_factor = 0,
                                std::size_t num_layers = 2, bool backward = true) {
  GenerateOptions options{
      .imbalance = imbalance,
      .seed = 3,
      .num_steps = steps,
      .backward = backward,
      .header = header_of(std::vector<TraceLayer>(num_layers, sixteen_ranks(capacity_factor)))};
  options.header = generated_header(options);
  return collect(options);
}

/// Counts of dense rows, one for each rank.
inline SparseCounts counts_of(const std::vector<std::vector<std::int64_t>>& rows) {
  std::vector<std::int64_t> dense;
  for (const auto& row : rows) dense.insert(dense.end(), row.begin(), row.end());
  return SparseCounts::from_dense(dense, static_cast<std::int64_t>(rows.front().size()));
}

inline Scenario on_ndv4(std::initializer_list<const char*> changes = {}) {
  Scenario scenario{.cluster = "azure_ndv4_a100"};
  for (const char* change : changes) set_change(scenario, change);
  return scenario;
}

inline ScenarioResult replay_one(const IterationTrace& trace, const Scenario& scenario,
                                 const ReplayOptions& options) {
  return std::move(replay(trace, {&scenario, 1}, options).front());
}

inline std::vector<ReplayPolicy> policies(std::initializer_list<const char*> texts) {
  std::vector<ReplayPolicy> result;
  for (const char* text : texts) result.push_back(parse_replay_policy(text));
  return result;
}

/// The result of a policy that ran. Fails the test if it did not.
inline const PolicyResult& of(const ScenarioResult& result, const std::string& policy) {
  for (const PolicyResult& one : result.policies) {
    if (to_string(one.policy) == policy) return one;
  }
  throw std::out_of_range("policy " + policy + " did not run");
}

}  // namespace flex::testing
