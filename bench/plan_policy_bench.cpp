#include <benchmark/benchmark.h>

#include "costmodel/cluster_description.h"
#include "tuner/policy.h"

/// What plan policies take of each iteration: choose() in a bucket that was seen, which may take 200 ns, and
/// observe(); what the online policy takes to open a range of loads at 2,048 GPUs.
namespace flex {
namespace {

struct Layer {
  Cluster cluster;
  Workload workload;
  CostModel costs;
};

Layer layer_on(int nodes, std::int64_t experts) {
  const Cluster cluster = load_cluster("azure_ndv4_a100", nodes);
  return {.cluster = cluster,
          .workload = {.world = cluster.world(),
                       .num_experts = experts,
                       .num_tokens = 16384,
                       .capacity = 2100,
                       .top_k = 2,
                       .model_dim = 2048,
                       .hidden_dim = 4096},
          .costs = cost_model_of(cluster)};
}

constexpr PassDurations kDurations{.forward_ns = 1'000'000, .backward_ns = 2'000'000};

void run(PlanPolicy& policy, const LayerLoad& load, int count) {
  for (int i = 0; i < count; ++i) policy.observe(0, load, policy.choose(0, load), kDurations);
}

void choose(benchmark::State& state, const char* name) {
  const Layer layer = layer_on(8, 16);
  const auto policy = make_policy(parse_policy(name), {.cluster = layer.cluster, .costs = &layer.costs});
  LayerLoad load{.workload = layer.workload};
  run(*policy, load, 200);
  std::int64_t step = 0;
  for (auto _ : state) {
    load.workload.capacity = layer.workload.capacity + (step++ & 31);  // inside one bucket
    benchmark::DoNotOptimize(policy->choose(0, load));
  }
  state.counters["limit_ns"] = 200;
}
BENCHMARK_CAPTURE(choose, static_plan, "static:r1 d2 linear");
BENCHMARK_CAPTURE(choose, dictionary, "dictionary");
BENCHMARK_CAPTURE(choose, model, "model");
BENCHMARK_CAPTURE(choose, online, "online");

void observe(benchmark::State& state) {
  const Layer layer = layer_on(8, 16);
  const auto policy =
      make_policy({.kind = PolicyKind::kOnline}, {.cluster = layer.cluster, .costs = &layer.costs});
  const LayerLoad load{.workload = layer.workload};
  run(*policy, load, 200);
  for (auto _ : state) policy->observe(0, load, policy->choose(0, load), kDurations);
}
BENCHMARK(observe)->Unit(benchmark::kMicrosecond);

// The first load of a range at `state.range(0)` nodes of 8 GPUs with 16 experts.
void open(benchmark::State& state) {
  const Layer layer = layer_on(static_cast<int>(state.range(0)), 16);
  for (auto _ : state) {
    const auto policy =
        make_policy({.kind = PolicyKind::kOnline}, {.cluster = layer.cluster, .costs = &layer.costs});
    benchmark::DoNotOptimize(policy->choose(0, {.workload = layer.workload}));
  }
}
BENCHMARK(open)->Arg(1)->Arg(8)->Arg(256)->ArgName("nodes")->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace flex

BENCHMARK_MAIN();
