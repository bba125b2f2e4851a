#include <benchmark/benchmark.h>

#include <vector>

#include "base/philox.h"
#include "costmodel/cost_model.h"
#include "costmodel/critical_path.h"
#include "costmodel/pass_sequence.h"
#include "costmodel/plan_space.h"
#include "costmodel/simulator.h"

/// How long the simulator takes, building of schedules included. items_per_second: passes.
namespace flex {
namespace {

/// As much arithmetic as a roofline with a logarithmic efficiency curve needs for each operation.
class BenchCosts final : public OperationCosts {
 public:
  [[nodiscard]] OperationCost cost(const Schedule& schedule, std::size_t index,
                                   const RankLoad& load) const override {
    const OperationSize& size = schedule.operations[index].size;
    std::int64_t rows = size.batch * size.rows;
    for (const std::int64_t expert : load.expert_rows) rows += expert;
    const double efficiency = 0.1 * std::log2(2.0 + static_cast<double>(rows));
    const double compute_us = size.flops * 1e-8 / efficiency;
    const double memory_us = static_cast<double>(size.bytes) * 1e-6;
    const double tokens_us = static_cast<double>(load.num_tokens) * 1e-3;
    return {.duration_us = 3.0 + tokens_us + std::max(compute_us, memory_us), .relative_error = 0.1};
  }
  [[nodiscard]] OverlapSlowdown overlap(AllToAllAlgorithm algorithm) const override {
    return algorithm == AllToAllAlgorithm::kLinear ? OverlapSlowdown{1.1, 1.2} : OverlapSlowdown{1.2, 1.1};
  }
};

/// The same on a cluster that the cost model knows.
LayerStack described(LayerStack stack) {
  stack.cluster = load_cluster("azure_ndv4_a100", stack.cluster.nodes);
  return stack;
}

LayerStack stack_of(int world, std::int64_t num_experts) {
  return {.workload = {.world = world,
                       .num_experts = num_experts,
                       .num_tokens = 4096,
                       .capacity = 4096,
                       .top_k = 2,
                       .model_dim = 2048,
                       .hidden_dim = 2048,
                       .dtype = DType::kBF16},
          .cluster = {.nodes = world / 8, .ranks_per_node = 8},
          .passes = Passes::kForward};
}

void run_symmetric(benchmark::State& state, const char* plan, bool real_model) {
  LayerStack stack = described(stack_of(64, 128));
  stack.forward = parse_plan(plan);
  const BenchCosts arithmetic;
  const CostModel model = cost_model_of(stack.cluster);
  const OperationCosts& costs = real_model ? static_cast<const OperationCosts&>(model) : arithmetic;
  PassSequence sequence;
  Simulator simulator;
  for (auto _ : state) {
    sequence.build(stack);
    benchmark::DoNotOptimize(simulator.run(sequence.passes(), costs).total_us);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK_CAPTURE(run_symmetric, linear, "r1 d4 linear", false)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(run_symmetric, hierarchical, "r1 d4 2dh", false)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(run_symmetric, linear_cost_model, "r1 d4 linear", true)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(run_symmetric, hierarchical_cost_model, "r1 d4 2dh", true)->Unit(benchmark::kMicrosecond);

void run_uneven(benchmark::State& state, const char* plan) {
  constexpr int kWorld = 2048;
  constexpr std::int64_t kMeanCount = 4;
  LayerStack stack = described(stack_of(kWorld, kWorld));
  stack.workload.dropless = true;
  stack.forward = parse_plan(plan);
  stack.workload.capacity = 2 * kMeanCount;
  PhiloxStream random(1);
  std::vector<std::int64_t> counts;
  for (int i = 0; i < kWorld * kWorld; ++i) counts.push_back(random.below(2 * kMeanCount) / 2 * 2);
  // Every rank's choices are a multiple of top_k, since every count is.
  stack.workload.num_tokens = kWorld * kMeanCount;
  const CostModel costs = cost_model_of(stack.cluster);
  PassSequence sequence;
  Simulator simulator;
  for (auto _ : state) {
    sequence.build(stack, counts);
    benchmark::DoNotOptimize(simulator.run(sequence.passes(), costs).total_us);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK_CAPTURE(run_uneven, linear, "r1 d4 linear counted")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(run_uneven, hierarchical, "r1 d8 2dh counted")->Unit(benchmark::kMillisecond);

// Every plan of a layer at 2,048 ranks, with what a table of plans shows: forward and backward apart.
void run_all_plans(benchmark::State& state) {
  LayerStack stack = described(stack_of(2048, 32));
  stack.workload.dropless = state.range(0) != 0;  // with counted experts, too
  const CostModel costs = cost_model_of(stack.cluster);
  PassSequence sequence;
  Simulator simulator;
  CriticalPath path;
  std::int64_t num_passes = 0;
  for (auto _ : state) {
    const PlanSpace space(stack.workload, stack.cluster);
    for (const Plan& plan : space.plans()) {
      stack.forward = stack.backward = plan;
      for (const Passes passes : {Passes::kForward, Passes::kBackward}) {
        stack.passes = passes;
        sequence.build(stack);
        find_critical_path_into(path, simulator.run(sequence.passes(), costs));
        benchmark::DoNotOptimize(path.error_us);
        ++num_passes;
      }
    }
  }
  state.SetItemsProcessed(num_passes);
}
BENCHMARK(run_all_plans)->Arg(0)->Arg(1)->ArgName("dropless")->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace flex

BENCHMARK_MAIN();
