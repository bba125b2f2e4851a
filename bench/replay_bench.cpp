#include <benchmark/benchmark.h>

#include <vector>

#include "traces/generate.h"
#include "traces/replay/replay.h"

/// How long replays take on one core, from a trace in memory to sums. items_per_second: iterations, (step,
/// layer) with a forward and a backward pass; the floor is what the project promises.
namespace flex {
namespace {

constexpr double kFloorPerSecond = 2000;  // at 64 ranks with uneven counts
constexpr int kWorld = 64;

IterationTrace make_trace(ImbalanceWorkload imbalance, std::int64_t num_experts) {
  GenerateOptions options{
      .imbalance = imbalance,
      .seed = 1,
      .num_steps = 250,
      .header = {.model = "bench",
                 .world = kWorld,
                 .ranks_per_node = 8,
                 .layers = std::vector<TraceLayer>(4, {.workload = {.world = kWorld,
                                                                    .num_experts = num_experts,
                                                                    .num_tokens = 4096,
                                                                    .top_k = 2,
                                                                    .model_dim = 2048,
                                                                    .hidden_dim = 2048,
                                                                    .dtype = DType::kBF16,
                                                                    .dropless = true},
                                                       .capacity_factor = 0})}};
  options.header = generated_header(options);
  IterationCollector collector(options.header);
  generate(options, [&](TraceRecord&& record) { collector.add(std::move(record)); });
  return std::move(collector).take();
}

/// All iterations of `trace` under the policies.
void run(benchmark::State& state, const IterationTrace& trace, const std::vector<ReplayPolicy>& policies) {
  const Scenario scenario{.cluster = "azure_ndv4_a100"};
  for (auto _ : state) {
    benchmark::DoNotOptimize(replay(trace, {&scenario, 1}, {.policies = policies}).front().num_choices);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(trace.iterations.size()));
  state.counters["floor"] = kFloorPerSecond;
}

// No two iterations are alike. The default plan runs, too, as in every replay.
void run_static(benchmark::State& state, ImbalanceWorkload imbalance, std::int64_t num_experts,
                const char* policy) {
  run(state, make_trace(imbalance, num_experts), {parse_replay_policy(policy)});
}
BENCHMARK_CAPTURE(run_static, drift_padded, ImbalanceWorkload::kDrift, 64, "static:r1 d2 linear")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(run_static, drift_counted, ImbalanceWorkload::kDrift, 64, "static:r1 d2 linear counted")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(run_static, drift_counted_2dh, ImbalanceWorkload::kDrift, 64, "static:r1 d4 2dh counted")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(run_static, ragged_padded, ImbalanceWorkload::kRaggedSources, 64, "static:r1 d2 linear")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(run_static, ragged_counted, ImbalanceWorkload::kRaggedSources, 64,
                  "static:r1 d2 linear counted")
    ->Unit(benchmark::kMillisecond);

// Beyond the promise: every plan of every iteration is timed, and all policies run.
void run_all(benchmark::State& state, ImbalanceWorkload imbalance, std::int64_t num_experts) {
  const IterationTrace trace = make_trace(imbalance, num_experts);
  run(state, trace, all_replay_policies(trace));
}
BENCHMARK_CAPTURE(run_all, drift, ImbalanceWorkload::kDrift, 64)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace flex

BENCHMARK_MAIN();
