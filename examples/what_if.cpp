// A what-if study: what would the routing of a recorded run take on machines that are not here, and what
// would plans that follow it be worth? Without an argument it generates a trace whose imbalance drifts.
#include <fmt/format.h>

#include "traces/generate.h"
#include "traces/replay/replay.h"

namespace {

flex::IterationTrace generated_trace() {
  flex::GenerateOptions options{.imbalance = flex::ImbalanceWorkload::kDrift, .seed = 7, .num_steps = 20};
  options.header = {.model = "example", .world = 16, .ranks_per_node = 8};
  options.header.layers.push_back({.workload = {.world = 16,
                                                .num_experts = 16,
                                                .num_tokens = 2048,
                                                .top_k = 2,
                                                .model_dim = 1024,
                                                .hidden_dim = 4096,
                                                .dtype = flex::DType::kBF16,
                                                .dropless = true},
                                   .capacity_factor = 0});
  flex::IterationCollector collector(flex::generated_header(options));
  flex::generate(options, [&](flex::TraceRecord&& record) { collector.add(std::move(record)); });
  return std::move(collector).take();
}

flex::IterationTrace recorded_trace(const char* path) {
  flex::TraceReader reader(path);
  return flex::read_iterations(reader);
}

}  // namespace

int main(int argc, char** argv) {
  const flex::IterationTrace trace = argc > 1 ? recorded_trace(argv[1]) : generated_trace();
  flex::Scenario today;
  today.reshard = flex::ReshardPolicy::kTile;  // more ranks are more of the same ranks
  set_change(today, "cluster=azure_ndv4_a100");
  set_change(today, "nodes=2");
  const std::vector<flex::Scenario> scenarios = {
      today,
      compared_scenario(today, "inter_node_bandwidth=0.5x"),
      compared_scenario(today, "nodes=8"),
      compared_scenario(today, "k=1"),
  };
  flex::ReplayOptions options;
  options.policies = {flex::parse_replay_policy("best-static"), flex::parse_replay_policy("online")};
  for (const flex::ScenarioResult& result : flex::replay(trace, scenarios, options)) {
    fmt::print("{} ({} ranks)\n", result.scenario.name, result.machine.cluster.world());
    for (const flex::PolicyResult& policy : result.policies) {
      fmt::print("  {:24} {:8.2f} ms, {} changes of plan\n", to_string(policy.policy), policy.total_us / 1e3,
                 policy.plan_changes);
    }
  }
}
