#include "runtime/policy_benchmark.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "base/require.h"
#include "costmodel/plan_space.h"
#include "profiler/mark_source.h"
#include "runtime/adaptive_layer.h"
#include "runtime/max_over_ranks.h"
#include "runtime/random_tensor.h"
#include "runtime/routed_tokens.h"

namespace flex {
namespace {

void check(const PolicyBenchmark& benchmark, int world) {
  validate(benchmark.config, world);
  require(benchmark.config.gate == GateKind::kLinear, "a drifting routing is made for the linear gate only");
  require(benchmark.num_tokens >= 1 && benchmark.iterations >= 1,
          "{} iterations of {} tokens; both are at least 1", benchmark.iterations, benchmark.num_tokens);
  require(benchmark.top_k >= 1 && benchmark.top_k <= benchmark.config.num_experts,
          "top_k is {}; with {} experts it is from 1 to {}", benchmark.top_k, benchmark.config.num_experts,
          benchmark.config.num_experts);
  const double most =
      static_cast<double>(benchmark.config.num_experts) / static_cast<double>(benchmark.top_k);
  require(benchmark.drift >= 1 && benchmark.drift <= most,
          "the capacity drifts by a factor of {}; with {} experts and k = {} it is from 1 to {}",
          benchmark.drift, benchmark.config.num_experts, benchmark.top_k, most);
}

/// The share of tokens whose first choice is expert 0 whatever else they would take. A share p lets expert 0
/// have p + (1 - p) k / E of the tokens, which is the drift times k / E at most.
double hot_share(const PolicyBenchmark& benchmark, double phase) {
  const double even =
      static_cast<double>(benchmark.top_k) / static_cast<double>(benchmark.config.num_experts);
  const double most = even >= 1 ? 0 : (benchmark.drift - 1) * even / (1 - even);
  return most * (1 - std::cos(2 * std::numbers::pi * phase)) / 2;
}

/// Choices (T, k) of one rank's tokens, `share` of which go to expert 0 first.
std::vector<std::int64_t> draw_choices(const PolicyBenchmark& benchmark, double share, PhiloxStream& random) {
  const auto k = static_cast<std::size_t>(benchmark.top_k);
  std::vector<std::int64_t> choices(static_cast<std::size_t>(benchmark.num_tokens) * k);
  for (std::size_t begin = 0; begin < choices.size(); begin += k) {
    const std::span chosen(choices.data() + begin, k);
    for (std::size_t j = 0; j < k; ++j) {
      const auto before = chosen.first(j);
      do {
        chosen[j] = random.below(benchmark.config.num_experts);
      } while (std::ranges::find(before, chosen[j]) != before.end());
    }
    if (random.uniform() >= share) continue;
    const auto hot = std::ranges::find(chosen, 0);
    if (hot == chosen.end()) {
      chosen.front() = 0;
    } else {
      std::swap(chosen.front(), *hot);
    }
  }
  return choices;
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
  Comparison(const PolicyBenchmark& benchmark, const std::vector<ComparedPolicy>& policies,
             RankContext& context, TraceRecorder* recorder)
      : benchmark_(benchmark),
        context_(context),
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
    draw_tokens(0.5);
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
    draw_tokens(static_cast<double>(iteration) / benchmark_.iterations);
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
      const bool first = result_.least_capacity == 0;
      result_.least_capacity = first ? result.capacity : std::min(result_.least_capacity, result.capacity);
    }
  }

  [[nodiscard]] PolicyComparison finish() {
    for (const auto& contender : contenders_) result_.runs.push_back(contender->finish());
    return result_;
  }

 private:
  void draw_tokens(double phase) {
    const auto choices = draw_choices(benchmark_, hot_share(benchmark_, phase), random_);
    const ConstTensorView gate = contenders_.front()->layer().parameters().at("gate.wg.weight").value;
    copy_blocking(x_, routed_tokens(choices, benchmark_.top_k, gate, x_.dtype(), random_));
  }

  template <class Layer>
  ForwardResult run_blocking(Layer& layer, const PlanPair& plans) {
    constexpr double kLossGradient = 0.01;
    ForwardCall call = forward_call_of(benchmark_);
    call.plans = plans;
    const ForwardResult result = layer.forward(x_, y_, call, stream_);
    layer.backward(dy_, dx_, kLossGradient, stream_);
    stream_.synchronize_blocking();
    return result;
  }

  const PolicyBenchmark& benchmark_;
  RankContext& context_;
  PhiloxStream random_;
  Tensor x_, y_, dx_, dy_;
  Stream stream_;
  std::vector<std::unique_ptr<Contender>> contenders_;
  PolicyComparison result_;
};

}  // namespace

ForwardCall forward_call_of(const PolicyBenchmark& benchmark) {
  return {.top_k = benchmark.top_k, .capacity_factor = 0, .equal_tokens = true};
}

PolicyComparison compare_policies(const PolicyBenchmark& benchmark,
                                  const std::vector<ComparedPolicy>& policies, RankContext& context,
                                  const std::function<void(int, int)>& progress, TraceRecorder* recorder) {
  check(benchmark, context.size());
  require(recorder == nullptr || policies.size() == 1,
          "the run of one policy is recorded; here are {} policies", policies.size());
  if (policies.empty()) return {};
  Comparison comparison(benchmark, policies, context, recorder);
  comparison.warm_up_blocking();
  for (int iteration = 0; iteration < benchmark.iterations; ++iteration) {
    comparison.run_iteration_blocking(iteration);
    if (progress && context.rank() == 0) progress(iteration + 1, benchmark.iterations);
  }
  if (recorder != nullptr) recorder->finish_blocking();
  return comparison.finish();
}

}  // namespace flex
