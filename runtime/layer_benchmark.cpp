#include "runtime/layer_benchmark.h"

#include <algorithm>
#include <cmath>

#include "base/philox.h"
#include "base/require.h"
#include "costmodel/accuracy.h"
#include "costmodel/plan_space.h"
#include "costmodel/traffic.h"
#include "kernels/host_element.h"
#include "profiler/stream_timer.h"
#include "runtime/layer_check.h"
#include "runtime/random_tensor.h"
#include "runtime/routed_tokens.h"

namespace flex {
namespace {

/// Times each operation where it runs.
class OperationTimer : public ExecutionObserver {
 public:
  explicit OperationTimer(Device device) : device_(device) {}

  void before(const Schedule& schedule, std::size_t index, Stream& stream) override {
    if (schedule.operations[index].stream == StreamKind::kHost) return;
    if (next_ == timers_.size()) timers_.emplace_back(device_);
    timers_[next_].start(stream);
  }
  void after(const Schedule& schedule, std::size_t index, Stream& stream) override {
    const Operation& operation = schedule.operations[index];
    if (operation.stream == StreamKind::kHost) return;
    timers_[next_++].stop(stream);
    ran_.push_back(operation);
  }

  /// Adds up the pass that has just run, by kind and direction, and begins the next.
  std::vector<OperationTime> take_pass() {
    std::vector<OperationTime> kinds;
    for (std::size_t i = 0; i < ran_.size(); ++i) {
      Operation operation = ran_[i];
      operation.num_chunks = 1;  // the label of all chunks together
      const std::string name = label(operation);
      auto found = std::ranges::find(kinds, name, &OperationTime::name);
      if (found == kinds.end()) found = kinds.insert(kinds.end(), {.name = name});
      found->count += 1;
      found->us += timers_[i].elapsed_us_blocking();
      found->flops += operation.size.flops;
      found->bytes += static_cast<double>(operation.size.bytes);
    }
    ran_.clear();
    next_ = 0;
    return kinds;
  }

 private:
  Device device_;
  std::vector<StreamTimer> timers_;
  std::vector<Operation> ran_;
  std::size_t next_ = 0;
};

// The experts that a token is to take: k different ones, drawn by their shares.
void draw_experts(Imbalance imbalance, std::int64_t num_experts, PhiloxStream& random,
                  std::vector<std::int64_t>& chosen) {
  const auto taken = [&](std::int64_t expert, std::size_t before) {
    return std::find(chosen.begin(), chosen.begin() + static_cast<std::ptrdiff_t>(before), expert) !=
           chosen.begin() + static_cast<std::ptrdiff_t>(before);
  };
  const std::int64_t used =
      imbalance == Imbalance::kHalfEmpty ? std::max<std::int64_t>(num_experts / 2, 1) : num_experts;
  constexpr double kHotShare = 8;
  const double hot =
      std::min(kHotShare * static_cast<double>(chosen.size()) / static_cast<double>(num_experts), 1.0);
  for (std::size_t j = 0; j < chosen.size(); ++j) {
    const bool room = static_cast<std::int64_t>(j) < used;  // k beyond the used experts takes others
    do {
      const bool takes_hot = imbalance == Imbalance::kHotExpert && j == 0 && random.uniform() < hot;
      chosen[j] = takes_hot ? 0 : random.below(room ? used : num_experts);
    } while (taken(chosen[j], j));
  }
}

// Tokens that the gate sends where `imbalance` wants them.
Tensor imbalanced_tokens(const LayerBenchmark& benchmark, ConstTensorView gate_weight, Device device,
                         std::uint64_t stream) {
  PhiloxStream random(benchmark.seed, stream);
  std::vector<std::int64_t> choices;
  std::vector<std::int64_t> chosen(static_cast<std::size_t>(benchmark.top_k));
  for (std::int64_t t = 0; t < benchmark.num_tokens; ++t) {
    draw_experts(benchmark.imbalance, benchmark.config.num_experts, random, chosen);
    choices.insert(choices.end(), chosen.begin(), chosen.end());
  }
  const Tensor host = routed_tokens(choices, benchmark.top_k, gate_weight, benchmark.config.dtype, random);
  Tensor tokens(host.dtype(), host.shape(), device);
  copy_blocking(tokens, host);
  return tokens;
}

constexpr int kGraphRepeats = 1;

/// One rank's layer with its tokens.
class Bench {
 public:
  Bench(const LayerBenchmark& benchmark, RankContext& context)
      : benchmark_(benchmark),
        context_(context),
        stream_(context.device()),
        timer_(context.device()),
        layer_(benchmark.config, context) {
    layer_.set_graph_policy({.repeats = benchmark.graphs ? kGraphRepeats : 0});
    const Shape shape = {benchmark.num_tokens, benchmark.config.model_dim};
    const DType dtype = benchmark.config.dtype;
    // Enough sets of tokens that a cache does not answer for memory.
    constexpr std::int64_t kSetsBytes = std::int64_t{256} << 20;
    constexpr std::int64_t kMostSets = 8;
    const std::int64_t set_bytes = 4 * std::max<std::int64_t>(shape.num_elements() * size_bytes(dtype), 1);
    const std::int64_t sets =
        context.device().is_cpu() ? 1 : std::clamp<std::int64_t>(kSetsBytes / set_bytes, 1, kMostSets);
    for (std::int64_t set = 0; set < sets; ++set) {
      const auto stream = 2 * static_cast<std::uint64_t>(set);
      sets_.push_back({tokens(stream), random(stream + 1), Tensor(dtype, shape, context.device()),
                       Tensor(dtype, shape, context.device())});
    }
  }
  ~Bench() { context_.executor().set_observer(nullptr); }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  [[nodiscard]] ForwardCall call(const PlanPair& plans) const {
    return {.top_k = benchmark_.top_k,
            .capacity_factor = benchmark_.capacity_factor,
            .plans = plans,
            .training = benchmark_.training,
            .equal_tokens = true};
  }

  /// One pass; its duration on this rank, from its first operation to its last.
  std::int64_t run_ns(const PlanPair& plans) {
    Tokens& tokens = sets_[next_set_++ % sets_.size()];
    static_cast<void>(sum_over_ranks(0));  // all start together
    timer_.start(stream_);
    result_ = layer_.forward(tokens.x, tokens.y, call(plans), stream_);
    if (benchmark_.training) layer_.backward(tokens.dy, tokens.dx, 0.01, stream_);
    timer_.stop(stream_);
    stream_.synchronize_blocking();
    return static_cast<std::int64_t>(timer_.elapsed_us_blocking() * 1e3);
  }

  [[nodiscard]] std::int64_t sum_over_ranks(std::int64_t mine) {
    std::int64_t sum = 0;
    for (const std::int64_t value : gathered(mine)) sum += value;
    return sum;
  }
  [[nodiscard]] std::int64_t max_over_ranks(std::int64_t mine) { return std::ranges::max(gathered(mine)); }

  [[nodiscard]] LayerLoad load() const { return {workload(), result_.max_over_mean}; }
  /// The agreed workload of the last pass.
  [[nodiscard]] const Workload& workload() const { return layer_.forward_schedule().workload; }

  PlanMeasurement measure(const PlanPair& plans, const std::function<void()>& passed);
  [[nodiscard]] std::vector<OperationTime> time_operations(const PlanPair& plans);
  [[nodiscard]] double output_error() {
    const Tokens& last = sets_[(next_set_ - 1) % sets_.size()];
    constexpr std::int64_t kSampledTokens = 8;
    return benchmark_.check_output && context_.size() == 1
               ? sampled_output_error(layer_, last.x, last.y, result_.capacity, kSampledTokens)
               : 0;
  }
  [[nodiscard]] double max_over_mean() const {
    const ConstTensorView counts = layer_.routing().counts;
    Tensor host(counts.dtype, counts.shape);
    copy_blocking(host, counts);
    const auto* first = host.as<std::int32_t>();
    const double mean =
        static_cast<double>(benchmark_.num_tokens * benchmark_.top_k) / static_cast<double>(counts.size(0));
    return mean > 0 ? static_cast<double>(*std::max_element(first, first + counts.size(0))) / mean : 0;
  }

 private:
  struct Tokens {
    Tensor x, dy, y, dx;
  };
  [[nodiscard]] Tensor tokens(std::uint64_t stream) {
    if (benchmark_.imbalance == Imbalance::kNone) return random(stream);
    return imbalanced_tokens(benchmark_, layer_.parameters().at("gate.wg.weight").value, context_.device(),
                             stream);
  }
  [[nodiscard]] Tensor random(std::uint64_t stream) const {
    constexpr std::uint64_t kStreamsPerRank = 64;
    return random_normal_tensor(benchmark_.config.dtype, {benchmark_.num_tokens, benchmark_.config.model_dim},
                                context_.device(), benchmark_.seed,
                                kStreamsPerRank * static_cast<std::uint64_t>(context_.rank()) + stream);
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
  std::vector<Tokens> sets_;
  std::size_t next_set_ = 0;
  std::vector<std::int64_t> all_;
  ForwardResult result_;
  Stream stream_;
  StreamTimer timer_;
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

std::vector<OperationTime> Bench::time_operations(const PlanPair& plans) {
  constexpr int kPasses = 5;
  OperationTimer timer(context_.device());
  context_.executor().set_observer(&timer);
  std::vector<std::vector<OperationTime>> passes;
  for (int pass = 0; pass < kPasses; ++pass) {
    static_cast<void>(run_ns(plans));
    passes.push_back(timer.take_pass());
  }
  context_.executor().set_observer(nullptr);
  std::vector<OperationTime> result = passes.back();
  for (std::size_t i = 0; i < result.size(); ++i) {
    std::vector<double> times;
    for (const auto& pass : passes) times.push_back(pass[i].us);
    result[i].us = median(times);
  }
  return result;
}

PlanMeasurement Bench::measure(const PlanPair& plans, const std::function<void()>& passed) {
  PlanMeasurement result{.plans = plans};
  if (context_.gemm() != nullptr) context_.gemm()->set_tune_unseen(benchmark_.tune_products);
  for (int i = 0; i < benchmark_.warmup; ++i) {
    static_cast<void>(run_ns(plans));
    passed();
  }
  if (context_.gemm() != nullptr) context_.gemm()->set_tune_unseen(false);
  // Until every set of tokens has its graph.
  for (std::size_t i = 0; benchmark_.graphs && i < (kGraphRepeats + 1) * sets_.size(); ++i) {
    static_cast<void>(run_ns(plans));
  }
  std::vector<std::int64_t> times_ns;
  context_.counters().reset();
  for (int i = 0; i < benchmark_.repeats; ++i) {
    times_ns.push_back(max_over_ranks(run_ns(plans)));
    passed();
  }
  std::ranges::sort(times_ns);
  const auto at = [&](double share) {
    const auto index =
        static_cast<std::size_t>(std::llround(share * static_cast<double>(times_ns.size() - 1)));
    return static_cast<double>(times_ns[index]) * 1e-3;
  };
  result.median_us = at(0.5);
  result.quartile_us[0] = at(0.25);
  result.quartile_us[1] = at(0.75);
  result.moved_bytes = max_over_ranks(moved_bytes()) / benchmark_.repeats;
  result.output_error = output_error();
  result.operations = time_operations(plans);
  result.activation_bytes = layer_.activation_bytes();
  result.expected_bytes = expected_bytes(workload(), plans, benchmark_.training);
  result.capacity = result_.capacity;
  result.dropped = sum_over_ranks(layer_.num_dropped_blocking());
  result.max_over_mean = max_over_mean();
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

std::optional<Imbalance> parse_imbalance(std::string_view text) {
  if (text == "none") return Imbalance::kNone;
  if (text == "hot_expert") return Imbalance::kHotExpert;
  if (text == "half_empty") return Imbalance::kHalfEmpty;
  return std::nullopt;
}

std::vector<PlanMeasurement> benchmark_layer(const LayerBenchmark& benchmark, RankContext& context,
                                             const std::function<void(int, int)>& progress) {
  require(benchmark.imbalance == Imbalance::kNone || benchmark.config.gate == GateKind::kLinear,
          "an imbalance is made for the linear gate only");
  Bench bench(benchmark, context);
  static_cast<void>(bench.run_ns({}));  // the capacity decides which plans are legal
  const Workload workload = bench.workload();
  std::vector<PlanPair> plans = benchmark.plans;
  if (benchmark.choose) plans = {benchmark.choose(bench.load())};
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
