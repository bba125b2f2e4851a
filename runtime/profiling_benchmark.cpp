#include "runtime/profiling_benchmark.h"

#include <algorithm>
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
constexpr int kIterations = 10 * kSampledEvery;  // of a round
/// Before each round: all begin with a device that is as warm, whatever came before.
constexpr int kWarmIterations = 20;

double us_since(std::int64_t begin_ns) { return static_cast<double>(steady_now_ns() - begin_ns) * 1e-3; }

/// What one figure came to each time.
using Figures = std::vector<double>;
double median_of(const Figures& figures) { return figures.empty() ? 0 : median(figures); }

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
    for (int i = 0; i < kWarmIterations; ++i) iterate();
    stream_.synchronize_blocking();
    const std::int64_t begin_ns = steady_now_ns();
    if (recorder == nullptr) {
      run_plain();
    } else if (watching == Watching::kCuptiSampled) {
      run_sampled(*recorder);
    } else if (watching == Watching::kCuptiAlways) {
      run_always(*recorder);
    } else {
      run_recorded(*recorder);
    }
    stream_.synchronize_blocking();
    return us_since(begin_ns) / kIterations;
  }

  [[nodiscard]] std::string remarks(Watching watching) {
    const SpanRecorder* recorder = recorder_of(watching);
    return recorder == nullptr ? "" : recorder->remarks();
  }

  /// Records single iterations of a quiet device. Returns whether CUPTI did.
  bool measure_quiet() {
    constexpr int kRepeats = 20;
    SpanRecorder& recorder = *recorder_of(Watching::kCuptiAlways);
    for (int i = 0; i < kRepeats; ++i) {
      stream_.synchronize_blocking();
      const std::int64_t begin_ns = steady_now_ns();
      recorder.start_blocking(stream_);
      switching_on_quiet_us_.push_back(us_since(begin_ns));
      observe(recorder, i);
      iterate();
      reading_quiet_us_.push_back(read_quiet_us(recorder));
    }
    const std::vector<Span> spans = recorder.spans(0);
    return !spans.empty() && spans.front().origin == "cupti";
  }

  [[nodiscard]] ProfilingHostTimes host_times() const {
    return {.queueing_us = median_of(queueing_us_),
            .switching_on_us = median_of(switching_on_us_),
            .switching_off_us = median_of(switching_off_us_),
            .taking_us = median_of(taking_us_),
            .iterations_late = median_of(iterations_late_),
            .switching_on_quiet_us = median_of(switching_on_quiet_us_),
            .reading_quiet_us = median_of(reading_quiet_us_)};
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

  void run_plain() {
    constexpr int kBeforeTheQueueIsFull = 10;
    const std::int64_t begin_ns = steady_now_ns();
    for (int i = 0; i < kIterations; ++i) {
      iterate();
      if (i + 1 == kBeforeTheQueueIsFull) queueing_us_.push_back(us_since(begin_ns) / kBeforeTheQueueIsFull);
    }
  }

  void run_sampled(SpanRecorder& recorder) {
    double taking_us = 0;
    for (int i = 0; i < kIterations; ++i) {
      if (i % kSampledEvery == kSampledEvery / 2) {
        sample(recorder, i);
      } else {
        iterate();
      }
      const std::int64_t begin_ns = steady_now_ns();
      while (const auto recording = recorder.take_stopped()) count_taken(*recording, i);
      taking_us += us_since(begin_ns);
    }
    taking_us_.push_back(taking_us / (static_cast<double>(kIterations) / kSampledEvery));
    while (const auto recording = recorder.take_stopped_blocking()) count_taken(*recording, kIterations);
  }
  void sample(SpanRecorder& recorder, int iteration) {
    std::int64_t begin_ns = steady_now_ns();
    recorder.start_blocking(stream_);
    switching_on_us_.push_back(us_since(begin_ns));
    observe(recorder, iteration);
    iterate();
    context_.executor().set_observer(nullptr);
    begin_ns = steady_now_ns();
    recorder.stop(stream_);
    switching_off_us_.push_back(us_since(begin_ns));
  }
  void count_taken(const SpanRecording& recording, int iteration) {
    iterations_late_.push_back(static_cast<double>(iteration - recording.operations.front().iteration));
  }

  /// One recording after the other, each taken while a later one runs: a run that goes on for long cannot
  /// keep all records until its end.
  void run_always(SpanRecorder& recorder) {
    for (int i = 0; i < kIterations; ++i) {
      if (i % kSampledEvery == 0) recorder.start_blocking(stream_);
      observe(recorder, i);
      iterate();
      if (i % kSampledEvery == kSampledEvery - 1) recorder.stop(stream_);
      while (recorder.take_stopped()) {
      }
    }
    context_.executor().set_observer(nullptr);
    while (recorder.take_stopped_blocking()) {
    }
  }
  /// All records are read at the end.
  void run_recorded(SpanRecorder& recorder) {
    recorder.start_blocking(stream_);
    for (int i = 0; i < kIterations; ++i) {
      observe(recorder, i);
      iterate();
    }
    static_cast<void>(read_quiet_us(recorder));
  }
  double read_quiet_us(SpanRecorder& recorder) {
    context_.executor().set_observer(nullptr);
    stream_.synchronize_blocking();
    const std::int64_t begin_ns = steady_now_ns();
    static_cast<void>(recorder.recorded());
    return us_since(begin_ns);
  }
  void observe(SpanRecorder& recorder, int iteration) {
    context_.executor().set_observer(&recorder);
    recorder.set_place(iteration, 0);
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
  Figures queueing_us_, switching_on_us_, switching_off_us_, taking_us_, iterations_late_;
  Figures switching_on_quiet_us_, reading_quiet_us_;
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
    std::array<double, kNumWatchings> us{};
    for (int i = 0; i < kNumWatchings; ++i) {
      const int place = round % 2 == 0 ? i : kNumWatchings - 1 - i;
      const int watching = (place + std::max(round, 0) / 2) % kNumWatchings;
      us[static_cast<std::size_t>(watching)] = watched.round_us(static_cast<Watching>(watching));
    }
    for (std::size_t i = 0; round >= 0 && i < kNumWatchings; ++i) {
      times[i].push_back(us[i]);
      ratios[i].push_back(us[i] / us[0]);
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
  result.records_by_cupti = watched.measure_quiet();
  result.host = watched.host_times();
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
