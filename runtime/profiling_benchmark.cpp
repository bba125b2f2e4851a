#include "runtime/profiling_benchmark.h"

#include <array>
#include <fstream>
#include <memory>
#include <optional>

#include "base/require.h"
#include "costmodel/accuracy.h"
#include "profiler/range_source.h"
#include "profiler/stream_timer.h"
#include "runtime/random_tensor.h"
#include "runtime/span_recorder.h"

namespace flex {
namespace {

constexpr int kSampledEvery = 50;
constexpr int kIterations = 2 * kSampledEvery;  // of a round

/// What the host does for one sampled iteration.
struct HostTimes {
  double begin_us = 0;
  double collect_us = 0;
  int count = 0;
};

class Watched {
 public:
  Watched(const LayerBenchmark& benchmark, RankContext& context)
      : benchmark_(benchmark),
        context_(context),
        stream_(context.device()),
        layer_(benchmark.config, context),
        x_(random_normal_tensor(benchmark.config.dtype, {benchmark.num_tokens, benchmark.config.model_dim},
                                context.device(), benchmark.seed, 0)),
        y_(benchmark.config.dtype, x_.shape(), context.device()) {
    layer_.set_graph_policy(kNoGraphs);
  }

  /// Mean time of an iteration, by the host's clock from a quiet device to a quiet device: what watching
  /// costs outside of the streams counts.
  double round_us(Watching watching) {
    SpanRecorder* recorder = recorder_of(watching);
    stream_.synchronize_blocking();
    const std::int64_t begin_ns = steady_now_ns();
    if (watching == Watching::kCuptiSampled) {
      for (int i = 0; i < kIterations; ++i) i % kSampledEvery == 0 ? sample(*recorder) : iterate();
    } else {
      if (recorder != nullptr) begin(*recorder);
      for (int i = 0; i < kIterations; ++i) {
        if (recorder != nullptr) recorder->set_place(i, 0);
        iterate();
      }
      if (recorder != nullptr) collect_us(*recorder);
    }
    stream_.synchronize_blocking();
    return static_cast<double>(steady_now_ns() - begin_ns) * 1e-3 / kIterations;
  }

  [[nodiscard]] std::string remarks(Watching watching) {
    const SpanRecorder* recorder = recorder_of(watching);
    return recorder == nullptr ? "" : recorder->remarks();
  }
  [[nodiscard]] const HostTimes& cupti_times() const { return cupti_times_; }
  [[nodiscard]] bool records_by_cupti() {
    SpanRecorder& recorder = *recorder_of(Watching::kCuptiAlways);
    sample(recorder);
    const std::vector<Span> spans = recorder.spans(0);
    return !spans.empty() && spans.front().origin == "cupti";
  }

 private:
  SpanRecorder* recorder_of(Watching watching) {
    if (watching == Watching::kNone) return nullptr;
    auto& recorder = watching == Watching::kEventsAlways ? events_ : cupti_;
    if (!recorder) {
      const RangeClock clock = watching == Watching::kEventsAlways ? RangeClock::kMarks : RangeClock::kCupti;
      recorder.emplace(make_range_source(context_.device(), clock, 0, 0), 0);
    }
    return &*recorder;
  }
  void begin(SpanRecorder& recorder) {
    recorder.start_blocking(stream_);
    context_.executor().set_observer(&recorder);
  }
  /// Returns what fetching the records of a quiet device took.
  double collect_us(SpanRecorder& recorder) {
    context_.executor().set_observer(nullptr);
    stream_.synchronize_blocking();
    const std::int64_t begin_ns = steady_now_ns();
    static_cast<void>(recorder.recorded());
    return us_since(begin_ns);
  }
  void sample(SpanRecorder& recorder) {
    const std::int64_t begin_ns = steady_now_ns();
    begin(recorder);
    cupti_times_.begin_us += us_since(begin_ns);
    recorder.set_place(0, 0);
    iterate();
    cupti_times_.collect_us += collect_us(recorder);
    ++cupti_times_.count;
  }
  static double us_since(std::int64_t begin_ns) {
    return static_cast<double>(steady_now_ns() - begin_ns) * 1e-3;
  }
  void iterate() {
    static_cast<void>(layer_.forward(x_, y_,
                                     {.top_k = benchmark_.top_k,
                                      .capacity_factor = benchmark_.capacity_factor,
                                      .plans = benchmark_.plans.front(),
                                      .training = false,
                                      .equal_tokens = true},
                                     stream_));
  }

  const LayerBenchmark& benchmark_;
  RankContext& context_;
  Stream stream_;
  MoeLayer layer_;
  Tensor x_, y_;
  std::optional<SpanRecorder> events_;
  std::optional<SpanRecorder> cupti_;
  HostTimes cupti_times_;
};

double limit_of(Watching watching) {
  switch (watching) {
    case Watching::kCuptiSampled:
      return 1.01;
    case Watching::kCuptiAlways:
      return 1.05;
    case Watching::kNone:
    case Watching::kEventsAlways:
      break;
  }
  return 0;
}

}  // namespace

std::string_view name(Watching watching) {
  switch (watching) {
    case Watching::kNone:
      return "none";
    case Watching::kCuptiSampled:
      return "cupti 1 in 50";
    case Watching::kCuptiAlways:
      return "cupti always";
    case Watching::kEventsAlways:
      return "events always";
  }
  return "?";
}

bool is_library_loaded(std::string_view name) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find(name) != std::string::npos) return true;
  }
  return false;
}

ProfilingCosts measure_profiling(const LayerBenchmark& benchmark, RankContext& context,
                                 const std::function<void(int, int)>& progress) {
  require(context.size() == 1, "what profiling costs is measured on one rank, not {}", context.size());
  require(context.device().is_cuda(), "what CUPTI costs is measured on a GPU; use --device cuda:0");
  Watched watched(benchmark, context);
  GemmAlgorithms* gemm = context.gemm();
  gemm->set_tune_unseen(benchmark.tune_products);
  static_cast<void>(watched.round_us(Watching::kNone));
  gemm->set_tune_unseen(false);
  ProfilingCosts result{.iterations = kIterations, .loaded_before = is_library_loaded("libcupti")};
  std::array<std::vector<double>, kNumWatchings> times;
  std::array<std::vector<double>, kNumWatchings> ratios;
  for (int round = -1; round < benchmark.repeats; ++round) {  // the first of them loads and prepares
    double plain_us = 0;
    for (int i = 0; i < kNumWatchings; ++i) {
      const double us = watched.round_us(static_cast<Watching>(i));
      if (i == 0) plain_us = us;
      if (round < 0) continue;
      times[static_cast<std::size_t>(i)].push_back(us);
      ratios[static_cast<std::size_t>(i)].push_back(us / plain_us);
    }
    if (progress) progress(round + 2, benchmark.repeats + 1);
  }
  for (int i = 0; i < kNumWatchings; ++i) {
    const auto watching = static_cast<Watching>(i);
    result.costs.push_back({.watching = watching,
                            .iteration_us = median(times[static_cast<std::size_t>(i)]),
                            .ratio = median(ratios[static_cast<std::size_t>(i)]),
                            .limit = limit_of(watching),
                            .remarks = watched.remarks(watching)});
  }
  result.records_by_cupti = watched.records_by_cupti();
  const HostTimes& host = watched.cupti_times();
  result.switching_on_us = host.begin_us / host.count;
  result.collecting_us = host.collect_us / host.count;
  return result;
}

LayerBenchmark profiling_layer(DType dtype) {
  const Plan plan = parse_plan("r1 d2 linear");
  return {.config = {.model_dim = 2048,
                     .hidden_dim = 2048,
                     .num_experts = 8,
                     .dtype = dtype,
                     .activation = Activation::kRelu},
          .num_tokens = 16384,
          .top_k = 2,
          .plans = {{plan, plan}},
          .repeats = 15};
}

}  // namespace flex
