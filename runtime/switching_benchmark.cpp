#include "runtime/switching_benchmark.h"

#include <algorithm>
#include <array>

#include "base/require.h"
#include "costmodel/accuracy.h"
#include "profiler/stream_timer.h"
#include "runtime/random_tensor.h"

namespace flex {
namespace {

constexpr int kIterations = 16;  // of a timed round; even, so that both plans run as often

class Switching {
 public:
  Switching(const LayerBenchmark& benchmark, RankContext& context)
      : benchmark_(benchmark),
        stream_(context.device()),
        timer_(context.device()),
        layer_(benchmark.config, context),
        x_(tokens(context, 0)),
        dy_(tokens(context, 1)),
        y_(benchmark.config.dtype, x_.shape(), context.device()),
        dx_(benchmark.config.dtype, x_.shape(), context.device()) {
    layer_.set_graph_policy({.repeats = 0});
  }

  // Mean time of an iteration of a round whose iterations take the plans in turn.
  double round_us(const PlanPair& even, const PlanPair& odd) {
    timer_.start(stream_);
    for (int i = 0; i < kIterations; ++i) iterate(i % 2 == 0 ? even : odd);
    timer_.stop(stream_);
    stream_.synchronize_blocking();
    return timer_.elapsed_us_blocking() / kIterations;
  }

 private:
  [[nodiscard]] Tensor tokens(RankContext& context, std::uint64_t stream) const {
    return random_normal_tensor(benchmark_.config.dtype, {benchmark_.num_tokens, benchmark_.config.model_dim},
                                context.device(), benchmark_.seed, stream);
  }
  void iterate(const PlanPair& plans) {
    static_cast<void>(layer_.forward(x_, y_,
                                     {.top_k = benchmark_.top_k,
                                      .capacity_factor = benchmark_.capacity_factor,
                                      .plans = plans,
                                      .training = benchmark_.training,
                                      .equal_tokens = true},
                                     stream_));
    if (benchmark_.training) layer_.backward(dy_, dx_, 0.01, stream_);
  }

  const LayerBenchmark& benchmark_;
  Stream stream_;
  StreamTimer timer_;
  MoeLayer layer_;
  Tensor x_, dy_, y_, dx_;
};

}  // namespace

std::vector<SwitchingCost> measure_switching(const LayerBenchmark& benchmark, RankContext& context) {
  require(context.size() == 1, "the cost of switching is measured on one rank, not {}", context.size());
  require(benchmark.plans.size() >= 2, "switching needs two plans or more, {} are given",
          benchmark.plans.size());
  Switching switching(benchmark, context);
  GemmAlgorithms* gemm = context.gemm();
  if (gemm != nullptr) gemm->set_tune_unseen(benchmark.tune_products);
  for (const PlanPair& plans : benchmark.plans) static_cast<void>(switching.round_us(plans, plans));
  if (gemm != nullptr) gemm->set_tune_unseen(false);

  std::vector<SwitchingCost> result;
  const PlanPair& first = benchmark.plans.front();
  for (std::size_t i = 1; i < benchmark.plans.size(); ++i) {
    const PlanPair& second = benchmark.plans[i];
    std::array<std::vector<double>, 4> times;
    for (int repeat = 0; repeat < benchmark.repeats; ++repeat) {
      const double first_us = switching.round_us(first, first);
      const double alternating_us = switching.round_us(first, second);
      const double second_us = switching.round_us(second, second);
      const std::array values = {first_us, second_us, alternating_us,
                                 alternating_us - (first_us + second_us) / 2};
      for (std::size_t kind = 0; kind < values.size(); ++kind) times[kind].push_back(values[kind]);
    }
    result.push_back({.tokens = benchmark.num_tokens,
                      .first = first,
                      .second = second,
                      .first_us = median(times[0]),
                      .second_us = median(times[1]),
                      .alternating_us = median(times[2]),
                      .overhead_us = median(times[3])});
  }
  return result;
}

std::vector<SwitchingCost> run_switching_suite(DType dtype, RankContext& context,
                                               const std::function<void(int, int)>& progress) {
  constexpr std::array<std::int64_t, 2> kTokens = {512, 4096};
  std::vector<SwitchingCost> result;
  int done = 0;
  for (const std::int64_t tokens : kTokens) {
    LayerBenchmark benchmark{.config = {.model_dim = 1024,
                                        .hidden_dim = 2048,
                                        .num_experts = 8,
                                        .dtype = dtype,
                                        .activation = Activation::kRelu},
                             .num_tokens = tokens,
                             .top_k = 2,
                             .repeats = 25};
    for (const char* plan : {"r1 d1 linear", "r0 d1 linear", "r1 d2 linear", "r1 d4 linear"}) {
      benchmark.plans.push_back({parse_plan(plan), parse_plan(plan)});
    }
    for (const SwitchingCost& cost : measure_switching(benchmark, context)) result.push_back(cost);
    if (progress) progress(++done, static_cast<int>(kTokens.size()));
  }
  return result;
}

}  // namespace flex
