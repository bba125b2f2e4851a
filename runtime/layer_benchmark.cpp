#include "runtime/layer_benchmark.h"

#include <algorithm>
#include <chrono>

#include "base/philox.h"
#include "costmodel/plan_space.h"
#include "costmodel/traffic.h"
#include "kernels/host_element.h"

namespace flex {
namespace {

using Clock = std::chrono::steady_clock;

/// One rank's layer with its tokens.
class Bench {
 public:
  Bench(const LayerBenchmark& benchmark, RankContext& context)
      : benchmark_(benchmark),
        context_(context),
        x_(random(0)),
        dy_(random(1)),
        y_(x_.dtype(), x_.shape(), x_.device()),
        dx_(x_.dtype(), x_.shape(), x_.device()),
        stream_(context.device()),
        layer_(benchmark.config, context) {}

  [[nodiscard]] ForwardCall call(const PlanPair& plans) const {
    return {.top_k = benchmark_.top_k,
            .capacity_factor = benchmark_.capacity_factor,
            .plans = plans,
            .training = benchmark_.training,
            .equal_tokens = true};
  }

  /// One pass; its duration on this rank.
  std::int64_t run_ns(const PlanPair& plans) {
    static_cast<void>(sum_over_ranks(0));  // all start together
    const auto start = Clock::now();
    result_ = layer_.forward(x_, y_, call(plans), stream_);
    if (benchmark_.training) layer_.backward(dy_, dx_, 0.01, stream_);
    stream_.synchronize_blocking();
    return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
  }

  [[nodiscard]] std::int64_t sum_over_ranks(std::int64_t mine) {
    std::int64_t sum = 0;
    for (const std::int64_t value : gathered(mine)) sum += value;
    return sum;
  }
  [[nodiscard]] std::int64_t max_over_ranks(std::int64_t mine) { return std::ranges::max(gathered(mine)); }

  /// The agreed workload of the last pass.
  [[nodiscard]] const Workload& workload() const { return layer_.forward_schedule().workload; }

  PlanMeasurement measure(const PlanPair& plans, const std::function<void()>& passed);

 private:
  [[nodiscard]] Tensor random(std::uint64_t stream) const {
    PhiloxStream generator(benchmark_.seed, 2 * static_cast<std::uint64_t>(context_.rank()) + stream);
    const Shape shape = {benchmark_.num_tokens, benchmark_.config.model_dim};
    Tensor host(benchmark_.config.dtype, shape);
    for (std::int64_t i = 0; i < host.num_elements(); ++i) set_host_element(host, i, generator.normal());
    Tensor tensor(host.dtype(), shape, context_.device());
    copy_blocking(tensor, host);
    return tensor;
  }
  [[nodiscard]] const std::vector<std::int64_t>& gathered(std::int64_t mine) {
    all_.resize(static_cast<std::size_t>(context_.size()));
    context_.control().gather_host_blocking({&mine, 1}, all_);
    return all_;
  }
  [[nodiscard]] std::int64_t moved_bytes() const {
    std::int64_t sum = 0;
    for (int i = 0; i < kNumTraffic; ++i) {
      if (static_cast<Traffic>(i) != Traffic::kControl)
        sum += context_.counters().bytes(static_cast<Traffic>(i));
    }
    return sum;
  }

  const LayerBenchmark& benchmark_;
  RankContext& context_;
  Tensor x_, dy_, y_, dx_;
  std::vector<std::int64_t> all_;
  ForwardResult result_;
  Stream stream_;
  MoeLayer layer_;
};

std::int64_t expected_bytes(Workload workload, const PlanPair& plans, bool training) {
  std::int64_t sum = 0;
  for (const std::int64_t bytes : expected_traffic(workload, plans.forward)) sum += bytes;
  if (!training) return sum;
  workload.pass = Pass::kBackward;
  for (const std::int64_t bytes : expected_traffic(workload, plans.backward)) sum += bytes;
  return sum;
}

double read_loss(ConstTensorView loss) {
  if (!loss.present()) return 0;
  Tensor host(loss.dtype, loss.shape);
  copy_blocking(host, loss);
  return host_element(host, 0);
}

PlanMeasurement Bench::measure(const PlanPair& plans, const std::function<void()>& passed) {
  PlanMeasurement result{.plans = plans};
  for (int i = 0; i < benchmark_.warmup; ++i) {
    static_cast<void>(run_ns(plans));
    passed();
  }
  std::vector<std::int64_t> times_ns;
  context_.counters().reset();
  for (int i = 0; i < benchmark_.repeats; ++i) {
    times_ns.push_back(max_over_ranks(run_ns(plans)));
    passed();
  }
  std::ranges::sort(times_ns);
  const auto at = [&](double share) {
    const auto index = static_cast<std::size_t>(share * static_cast<double>(times_ns.size() - 1) + 0.5);
    return static_cast<double>(times_ns[index]) * 1e-3;
  };
  result.median_us = at(0.5);
  result.quartile_us[0] = at(0.25);
  result.quartile_us[1] = at(0.75);
  result.moved_bytes = max_over_ranks(moved_bytes()) / benchmark_.repeats;
  result.expected_bytes = expected_bytes(workload(), plans, benchmark_.training);
  result.capacity = result_.capacity;
  result.dropped = sum_over_ranks(layer_.num_dropped_blocking());
  result.routed = sum_over_ranks(benchmark_.num_tokens * benchmark_.top_k);
  result.loss = read_loss(layer_.routing().loss);
  const double matrices = benchmark_.config.ffn == FfnKind::kGated ? 3 : 2;
  const double passes = benchmark_.training ? 3 : 1;  // backward: gradients of rows and of weights
  result.flops = passes * matrices * 2.0 * static_cast<double>(benchmark_.config.model_dim) *
                 static_cast<double>(benchmark_.config.hidden_dim) *
                 static_cast<double>(result.routed - result.dropped);
  return result;
}

}  // namespace

std::vector<PlanMeasurement> benchmark_layer(const LayerBenchmark& benchmark, RankContext& context,
                                             const std::function<void(int, int)>& progress) {
  Bench bench(benchmark, context);
  static_cast<void>(bench.run_ns({}));  // the capacity decides which plans are legal
  const Workload workload = bench.workload();
  std::vector<PlanPair> plans = benchmark.plans;
  if (plans.empty()) {
    for (const Plan& plan : PlanSpace(workload, context.cluster()).plans()) plans.push_back({plan, plan});
  }
  const int total = static_cast<int>(plans.size()) * (benchmark.warmup + benchmark.repeats);
  int done = 0;
  const auto passed = [&] {
    ++done;
    if (progress && context.rank() == 0) progress(done, total);
  };
  std::vector<PlanMeasurement> results;
  for (const PlanPair& pair : plans) {
    const auto reason = why_illegal(pair.forward, workload, context.cluster());
    if (reason) {
      results.push_back({.plans = pair, .illegal = *reason});
      continue;
    }
    results.push_back(bench.measure(pair, passed));
  }
  return results;
}

}  // namespace flex
