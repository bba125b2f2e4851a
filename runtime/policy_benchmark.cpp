#include "runtime/policy_benchmark.h"

#include <algorithm>
#include <array>
#include <limits>

#include "base/require.h"
#include "costmodel/plan_space.h"
#include "profiler/mark_source.h"
#include "runtime/adaptive_layer.h"
#include "runtime/max_over_ranks.h"
#include "runtime/random_tensor.h"
#include "runtime/routed_tokens.h"
#include "runtime/routing_choices.h"

namespace flex {
namespace {

void check(const PolicyBenchmark& benchmark, int world) {
  validate(benchmark.config, world);
  require(benchmark.config.gate == GateKind::kLinear, "a drifting routing is made for the linear gate only");
  require(benchmark.num_tokens >= 1 && benchmark.iterations >= 1,
          "{} iterations of {} tokens; both are at least 1", benchmark.iterations, benchmark.num_tokens);
}

/// One policy with a layer of its own.
class Contender {
 public:
  Contender(const ComparedPolicy& entry, const PolicyBenchmark& benchmark, RankContext& context,
            TraceRecorder* recorder)
      : entry_(entry),
        policy_(entry.make()),
        layer_(benchmark.config, context),
        adaptive_(layer_, *policy_, 0, context, recorder) {
    run_.name = entry.name;
  }

  [[nodiscard]] MoeLayer& layer() { return layer_; }
  [[nodiscard]] AdaptiveLayer& adaptive() { return adaptive_; }

  void add(const PlanPair& plans, double us) {
    run_.total_us += us;
    if (!run_.plans.empty() && plans != last_) ++run_.num_changes;
    last_ = plans;
    auto use = std::ranges::find(run_.plans, plans, &PolicyRun::Use::plans);
    if (use == run_.plans.end()) use = run_.plans.insert(use, {.plans = plans});
    ++use->iterations;
  }
  [[nodiscard]] PolicyRun finish() {
    // Ties in the order of the plans, so that it is one order.
    std::ranges::sort(run_.plans, [](const PolicyRun::Use& a, const PolicyRun::Use& b) {
      return a.iterations != b.iterations ? a.iterations > b.iterations : a.plans < b.plans;
    });
    if (entry_.num_explored) run_.num_explored = entry_.num_explored(*policy_);
    run_.disagreed = adaptive_.disagreed();
    return run_;
  }

 private:
  const ComparedPolicy& entry_;
  std::unique_ptr<PlanPolicy> policy_;
  MoeLayer layer_;
  AdaptiveLayer adaptive_;
  PolicyRun run_;
  PlanPair last_;
};

/// One rank's part of the comparison.
class Comparison {
 public:
  Comparison(const PolicyBenchmark& benchmark, const RoutingChoices& choices,
             const std::vector<ComparedPolicy>& policies, RankContext& context, TraceRecorder* recorder)
      : benchmark_(benchmark),
        context_(context),
        choices_(choices),
        random_(benchmark.seed, static_cast<std::uint64_t>(context.rank())),
        x_(benchmark.config.dtype, {benchmark.num_tokens, benchmark.config.model_dim}, context.device()),
        y_(x_.dtype(), x_.shape(), context.device()),
        dx_(x_.dtype(), x_.shape(), context.device()),
        dy_(random_normal_tensor(x_.dtype(), x_.shape(), context.device(), benchmark.seed + 1,
                                 static_cast<std::uint64_t>(context.rank()))),
        stream_(context.device()) {
    for (const ComparedPolicy& policy : policies) {
      contenders_.push_back(std::make_unique<Contender>(policy, benchmark, context, recorder));
    }
  }

  /// Every plan once, at the largest load, so that nothing is allocated later.
  void warm_up_blocking() {
    draw_tokens(choices_.fullest_iteration());
    for (const auto& contender : contenders_) {
      MoeLayer& layer = contender->layer();
      static_cast<void>(run_blocking(layer, {}));
      const Workload workload = layer.forward_schedule().workload;
      for (const Plan& plan : PlanSpace(workload, context_.cluster()).plans()) {
        static_cast<void>(run_blocking(layer, {plan, plan}));
      }
    }
  }

  void run_iteration_blocking(int iteration) {
    draw_tokens(iteration);
    for (std::size_t i = 0; i < contenders_.size(); ++i) {
      Contender& contender = *contenders_[(i + static_cast<std::size_t>(iteration)) % contenders_.size()];
      std::array<std::int64_t, 1> arrival{};
      max_over_ranks_blocking(arrival, context_.control());  // all start together
      const std::int64_t begin_ns = steady_now_ns();
      const ForwardResult result = run_blocking(contender.adaptive(), {});
      std::array<std::int64_t, 1> slowest_ns = {steady_now_ns() - begin_ns};
      max_over_ranks_blocking(slowest_ns, context_.control());
      contender.add(result.plans, static_cast<double>(slowest_ns[0]) * 1e-3);
      result_.largest_capacity = std::max(result_.largest_capacity, result.capacity);
      result_.least_capacity = std::min(result_.least_capacity, result.capacity);
    }
  }

  [[nodiscard]] PolicyComparison finish() {
    for (const auto& contender : contenders_) result_.runs.push_back(contender->finish());
    return result_;
  }

 private:
  void draw_tokens(int iteration) {
    const std::vector<std::int64_t> choices = choices_.draw(iteration, random_);
    num_tokens_ = static_cast<std::int64_t>(choices.size()) / benchmark_.top_k;
    const ConstTensorView gate = contenders_.front()->layer().parameters().at("gate.wg.weight").value;
    copy_blocking(rows(x_), routed_tokens(choices, benchmark_.top_k, gate, x_.dtype(), random_));
  }
  /// The rows of the current iteration's tokens.
  [[nodiscard]] TensorView rows(Tensor& tensor) const {
    return {tensor.view().data, tensor.dtype(), {num_tokens_, tensor.shape()[1]}, tensor.device()};
  }

  template <class Layer>
  ForwardResult run_blocking(Layer& layer, const PlanPair& plans) {
    constexpr double kLossGradient = 0.01;
    ForwardCall call = forward_call_of(benchmark_);
    call.plans = plans;
    const ForwardResult result = layer.forward(rows(x_), rows(y_), call, stream_);
    layer.backward(rows(dy_), rows(dx_), kLossGradient, stream_);
    stream_.synchronize_blocking();
    return result;
  }

  const PolicyBenchmark& benchmark_;
  RankContext& context_;
  const RoutingChoices& choices_;
  PhiloxStream random_;
  std::int64_t num_tokens_ = 0;  // of the current iteration
  Tensor x_, y_, dx_, dy_;
  Stream stream_;
  std::vector<std::unique_ptr<Contender>> contenders_;
  PolicyComparison result_{.least_capacity = std::numeric_limits<std::int64_t>::max()};
};

}  // namespace

ForwardCall forward_call_of(const PolicyBenchmark& benchmark) {
  return {.top_k = benchmark.top_k, .capacity_factor = 0, .equal_tokens = !benchmark.imbalance};
}

PolicyComparison compare_policies(const PolicyBenchmark& benchmark,
                                  const std::vector<ComparedPolicy>& policies, RankContext& context,
                                  const std::function<void(int, int)>& progress, TraceRecorder* recorder) {
  check(benchmark, context.size());
  const RoutingChoices choices(benchmark, context.rank(), context.size());
  require(recorder == nullptr || policies.size() == 1,
          "the run of one policy is recorded; here are {} policies", policies.size());
  if (policies.empty()) return {};
  Comparison comparison(benchmark, choices, policies, context, recorder);
  comparison.warm_up_blocking();
  for (int iteration = 0; iteration < benchmark.iterations; ++iteration) {
    comparison.run_iteration_blocking(iteration);
    if (progress && context.rank() == 0) progress(iteration + 1, benchmark.iterations);
  }
  if (recorder != nullptr) recorder->finish_blocking();
  return comparison.finish();
}

}  // namespace flex
