#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "kernels/hold_stream.h"
#include "kernels/stream_graph.h"
#include "profiler/range_source.h"
#include "runtime/launch.h"
#include "runtime/moe_layer.h"
#include "runtime/profiling_benchmark.h"
#include "runtime/random_tensor.h"
#include "runtime/timed_layer.h"
#include "tests/support/cuda.h"

/// CUPTI's own records, on a GPU: they come, and belong to the operations that queued the work.
namespace flex::testing {
namespace {

using namespace std::chrono_literals;

constexpr Device kGpu = Device::cuda(0);
constexpr std::int64_t kIteration = 7;
constexpr std::int32_t kLayer = 3;

const LayerShape kShape{.num_tokens = 512, .model_dim = 128, .hidden_dim = 256, .num_experts = 4, .top_k = 2};

/// What one rank's recorder saw of one training pass.
struct Seen {
  std::vector<RecordedOperation> operations;  // all of the schedules
  std::vector<Span> spans;                    // of those with records
  std::vector<Span> details;
  std::string remarks;
};

Seen record(TimedLayer& layer, const PlanPair& plans, std::int64_t iteration = kIteration) {
  layer.recorder().set_place(iteration, kLayer);
  const auto operations = layer.trace_blocking(plans);
  Seen seen{.operations = {operations.begin(), operations.end()}};
  seen.spans = layer.recorder().spans(0);
  seen.details = layer.recorder().details(0);
  seen.remarks = layer.recorder().remarks();
  return seen;
}

std::vector<Seen> record_on_ranks(int world, const std::string& plan) {
  // The context is there before deadlines begin, and CUPTI ends when no rank calls CUDA any more.
  const auto keeper = make_range_source(kGpu, RangeClock::kCupti, 0, 0);
  std::vector<Seen> seen(static_cast<std::size_t>(world));
  const Plan parsed = parse_plan(plan);
  run_ranks({.world = world, .ranks_per_node = world}, 60s, [&](Communicator& communicator) {
    RankContext context(communicator, kGpu);
    Stream stream(kGpu);
    TimedLayer layer(kShape, DType::kF32, 1, context, stream, RangeClock::kCupti);
    layer.set_graph_policy(kNoGraphs);
    for (int i = 0; i < 3; ++i) static_cast<void>(layer.time_blocking({parsed, parsed}));
    seen[static_cast<std::size_t>(communicator.rank())] = record(layer, {parsed, parsed});
  });
  return seen;
}

using Place = std::pair<std::int32_t, std::int32_t>;  // pass, operation

std::map<Place, Span> by_place(const Seen& seen) {
  std::map<Place, Span> spans;
  for (const Span& span : seen.spans) spans[{span.pass, span.operation}] = span;
  return spans;
}

// Kernels lie inside the range of their operation, and an operation of several ranks may leave a rank without
// any: its share of a small sum can be empty.
void expect_joined(const std::vector<Seen>& ranks) {
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    const Seen& seen = ranks[rank];
    EXPECT_EQ(seen.remarks, "") << "rank " << rank;
    const auto spans = by_place(seen);
    ASSERT_EQ(spans.size(), seen.spans.size()) << "one span for each operation";
    std::set<Place> worked;
    for (const Span& detail : seen.details) {
      if (detail.stream == "profiler") continue;  // CUPTI's own time
      const auto found = spans.find({detail.pass, detail.operation});
      ASSERT_NE(found, spans.end()) << detail.name << " of pass " << detail.pass << ", operation "
                                    << detail.operation;
      EXPECT_EQ(detail.iteration, kIteration);
      EXPECT_EQ(detail.layer, kLayer);
      EXPECT_EQ(detail.chunk, found->second.chunk);
      EXPECT_GE(detail.begin_ns, found->second.begin_ns);
      EXPECT_LE(detail.end_ns, found->second.end_ns);
      worked.insert(found->first);
    }
    for (const RecordedOperation& operation : seen.operations) {
      if (operation.operation.stream == StreamKind::kHost) continue;
      const Place place{operation.pass, operation.index};
      const bool anywhere =
          std::ranges::any_of(ranks, [&](const Seen& other) { return by_place(other).contains(place); });
      const bool own = operation.operation.stream == StreamKind::kCompute;
      EXPECT_TRUE(own ? worked.contains(place) : anywhere)
          << "rank " << rank << ": no record of " << label(operation.operation) << " in pass "
          << operation.pass;
    }
  }
}

// The first case of this program: nothing has asked for CUPTI yet.
TEST(CuptiGpu, IsNotLoadedWithoutProfiling) {
  FLEX_SKIP_WITHOUT_CUDA();
  run_ranks({.world = 1, .ranks_per_node = 1}, 60s, [&](Communicator& communicator) {
    RankContext context(communicator, kGpu);
    Stream stream(kGpu);
    TimedLayer layer(kShape, DType::kF32, 1, context, stream);
    static_cast<void>(layer.time_blocking({}));
    static_cast<void>(layer.trace_blocking({}));
    EXPECT_EQ(layer.recorder().spans(0).front().origin, "cuda_events");
  });
  EXPECT_FALSE(is_library_loaded("libcupti"));
}

TEST(CuptiGpu, IsUsedWhereItWasAskedFor) {
  FLEX_SKIP_WITHOUT_CUDA();
  const auto source = make_range_source(kGpu, RangeClock::kCupti, 0, 0);
  EXPECT_EQ(source->origin(false), "cupti") << "the warning above says why not";
  EXPECT_TRUE(is_library_loaded("libcupti"));
}

class CuptiGpuLayer : public ::testing::TestWithParam<std::tuple<int, const char*>> {};

TEST_P(CuptiGpuLayer, EveryOperationHasItsRecords) {
  FLEX_SKIP_WITHOUT_CUDA();
  const auto [world, plan] = GetParam();
  expect_joined(record_on_ranks(world, plan));
}

INSTANTIATE_TEST_SUITE_P(Plans, CuptiGpuLayer,
                         ::testing::Values(std::tuple{1, "r1 d1 linear"}, std::tuple{1, "r1 d4 linear"},
                                           std::tuple{2, "r1 d4 linear"}, std::tuple{4, "r1 d2 linear"},
                                           std::tuple{4, "r1 d2 2dh"}));

// Of six iterations every third is recorded; the others leave nothing, and nothing is late.
TEST(CuptiGpu, RecordsTheIterationsThatSamplingTakes) {
  FLEX_SKIP_WITHOUT_CUDA();
  run_ranks({.world = 1, .ranks_per_node = 1}, 60s, [&](Communicator& communicator) {
    RankContext context(communicator, kGpu);
    Stream stream(kGpu);
    TimedLayer layer(kShape, DType::kF32, 1, context, stream, RangeClock::kCupti);
    layer.set_graph_policy(kNoGraphs);
    static_cast<void>(layer.time_blocking({}));
    const Sampling sampling{.every = 3};
    std::size_t kernels = 0;
    for (std::int64_t iteration = 0; iteration < 6; ++iteration) {
      if (!sampling.takes(iteration)) {
        static_cast<void>(layer.time_blocking({}));
        continue;
      }
      const Seen seen = record(layer, {}, iteration);
      ASSERT_FALSE(seen.spans.empty());
      for (const Span& span : seen.spans) EXPECT_EQ(span.iteration, iteration);
      const auto count = static_cast<std::size_t>(
          std::ranges::count_if(seen.details, [](const Span& span) { return span.operation >= 0; }));
      if (iteration == 0) kernels = count;
      EXPECT_EQ(count, kernels) << "equal passes have equal kernels";
      EXPECT_EQ(seen.remarks, "");
    }
  });
}

// One iteration of two kernels, which is recorded and stopped while it waits in the queue.
void record_and_stop(RangeSource& source, Stream& stream, std::int64_t iteration) {
  source.start_blocking(stream);
  source.begin({.iteration = iteration, .operation = 0}, &stream);
  hold_stream(stream, 100);
  hold_stream(stream, 100);
  source.end(&stream);
  source.stop(stream);
}

void expect_both_kernels(const RangeRecording& recording, std::int64_t iteration) {
  ASSERT_EQ(recording.ranges.size(), 1U);
  EXPECT_GE(recording.ranges[0].end_ns - recording.ranges[0].begin_ns, 200'000);
  EXPECT_LE(recording.ranges[0].end_ns - recording.ranges[0].begin_ns, 600'000)
      << "its end is not when its records went on again";
  const auto kernels = std::ranges::count_if(recording.details, [&](const Span& span) {
    return span.operation == 0 && span.iteration == iteration;
  });
  EXPECT_EQ(kernels, 2) << "iteration " << iteration;
}

// Records go off before the recorded kernels have run; they come all the same, while the device goes on with
// other work, and the host waits for nothing.
TEST(CuptiGpu, StoppedRecordingsAreWholeAndDoNotWait) {
  FLEX_SKIP_WITHOUT_CUDA();
  constexpr std::int64_t kLast = 40;
  const auto source = make_range_source(kGpu, RangeClock::kCupti, 0, 0);
  ASSERT_EQ(source->origin(false), "cupti");
  Stream stream(kGpu);
  hold_stream(stream, 0);
  stream.synchronize_blocking();
  hold_stream(stream, 20'000);  // longer than the host needs to queue both
  const std::int64_t begin_ns = steady_now_ns();
  record_and_stop(*source, stream, 0);
  record_and_stop(*source, stream, 5);
  EXPECT_FALSE(source->take_stopped().has_value());
  EXPECT_LT(steady_now_ns() - begin_ns, 15'000'000) << "something waited for the device";
  std::vector<RangeRecording> taken;
  for (std::int64_t iteration = 6; iteration < kLast; ++iteration) {  // a millisecond each, none recorded
    hold_stream(stream, 1000);
    Event ahead(kGpu);
    stream.record(ahead);
    while (auto recording = source->take_stopped()) taken.push_back(std::move(*recording));
    while (!ahead.done()) std::this_thread::sleep_for(100us);
  }
  ASSERT_EQ(taken.size(), 2U) << "taken while the loop went on";
  expect_both_kernels(taken[0], 0);
  expect_both_kernels(taken[1], 5);
  record_and_stop(*source, stream, kLast);
  const auto last = source->take_stopped_blocking();
  ASSERT_TRUE(last.has_value());
  expect_both_kernels(*last, kLast);
  EXPECT_EQ(source->remarks(), "");
}

// Every third iteration of a layer, none waited for: each has the kernels that a blocking read sees.
TEST(CuptiGpu, StoppedRecordingsOfALayerHaveAllItsKernels) {
  FLEX_SKIP_WITHOUT_CUDA();
  run_ranks({.world = 1, .ranks_per_node = 1}, 60s, [&](Communicator& communicator) {
    RankContext context(communicator, kGpu);
    Stream stream(kGpu);
    const LayerBenchmark benchmark = profiling_layer(DType::kBF16);
    MoeLayer layer(benchmark.config, context);
    layer.set_graph_policy(kNoGraphs);
    const Tensor x =
        random_normal_tensor(DType::kBF16, {benchmark.num_tokens, benchmark.config.model_dim}, kGpu, 1, 0);
    Tensor y(DType::kBF16, x.shape(), kGpu);
    SpanRecorder recorder(make_range_source(kGpu, RangeClock::kCupti, 0, 0), 0);
    const auto run = [&](std::int64_t iteration) {
      recorder.set_place(iteration, kLayer);
      static_cast<void>(layer.forward(x, y,
                                      {.top_k = benchmark.top_k,
                                       .plans = benchmark.plans.front(),
                                       .training = false,
                                       .equal_tokens = true},
                                      stream));
    };
    const auto kernels_of = [](const std::vector<Span>& details) {
      return std::ranges::count_if(details, [](const Span& span) { return span.operation >= 0; });
    };
    run(0);
    context.executor().set_observer(&recorder);
    recorder.start_blocking(stream);
    run(1);
    stream.synchronize_blocking();
    const std::size_t num_operations = recorder.recorded().size();
    const auto num_kernels = kernels_of(recorder.details(0));
    ASSERT_GT(num_kernels, 0);
    std::vector<SpanRecording> taken;
    constexpr Sampling kSampling{.every = 3};
    for (std::int64_t iteration = 3; iteration < 18; ++iteration) {
      if (kSampling.takes(iteration)) recorder.start_blocking(stream);
      run(iteration);
      if (kSampling.takes(iteration)) recorder.stop(stream);
      while (auto recording = recorder.take_stopped()) taken.push_back(std::move(*recording));
    }
    while (auto recording = recorder.take_stopped_blocking()) taken.push_back(std::move(*recording));
    context.executor().set_observer(nullptr);
    ASSERT_EQ(taken.size(), 5U);
    for (const SpanRecording& recording : taken) {
      const auto seen = std::ranges::count_if(recording.operations, [](const RecordedOperation& operation) {
        return operation.end_ns != MarkSource::kNotReached;
      });
      EXPECT_EQ(static_cast<std::size_t>(seen), num_operations);
      EXPECT_EQ(kernels_of(recording.details), num_kernels);
    }
    EXPECT_EQ(recorder.remarks(), "");
  });
}

// Two operations are captured, each of two kernels; the launch is a range of its own in another iteration.
TEST(CuptiGpu, ReplayedKernelsAreOfTheOperationTheyWereCapturedFor) {
  FLEX_SKIP_WITHOUT_CUDA();
  const auto source = make_range_source(kGpu, RangeClock::kCupti, 0, 0);
  ASSERT_EQ(source->origin(false), "cupti");
  Stream stream(kGpu);
  hold_stream(stream, 0);
  stream.synchronize_blocking();
  StreamGraph graph = StreamGraph::capture(stream, [&] {
    for (const std::int32_t operation : {0, 1}) {
      source->begin({.iteration = 0, .layer = kLayer, .pass = 0, .operation = operation}, &stream);
      hold_stream(stream, 20);
      hold_stream(stream, 20);
      source->end(&stream);
    }
  });
  for (const std::int64_t iteration : {5, 6}) {
    source->start_blocking(stream);
    source->begin({.iteration = iteration, .layer = kLayer}, &stream);
    graph.launch(stream);
    source->end(&stream);
    stream.synchronize_blocking();
    const auto ranges = source->ranges_blocking();
    ASSERT_EQ(ranges.size(), 1U);
    EXPECT_GE(ranges[0].end_ns - ranges[0].begin_ns, 80'000);
    std::array<int, 2> kernels{};
    for (const Span& span : source->details()) {
      if (span.stream == "profiler") continue;
      EXPECT_EQ(span.iteration, iteration);
      ASSERT_TRUE(span.operation == 0 || span.operation == 1) << span.name << " is of no operation";
      ++kernels[static_cast<std::size_t>(span.operation)];
    }
    EXPECT_EQ(kernels, (std::array{2, 2}));
    EXPECT_EQ(source->remarks(), "");
  }
}

// The last source of the process ends CUPTI; the next one begins it anew.
TEST(CuptiGpu, CanBeEndedAndBegunAgain) {
  FLEX_SKIP_WITHOUT_CUDA();
  Stream stream(kGpu);
  for (int time = 0; time < 3; ++time) {
    const auto source = make_range_source(kGpu, RangeClock::kCupti, 0, 0);
    ASSERT_EQ(source->origin(false), "cupti") << "time " << time;
    source->start_blocking(stream);
    source->begin({.iteration = time, .operation = 0}, &stream);
    hold_stream(stream, 50);
    source->end(&stream);
    stream.synchronize_blocking();
    const auto ranges = source->ranges_blocking();
    ASSERT_EQ(ranges.size(), 1U);
    EXPECT_GE(ranges[0].end_ns - ranges[0].begin_ns, 50'000) << "time " << time;
    EXPECT_EQ(source->remarks(), "");
  }
}

// CUPTI's times and the host's clock are one: what was queued between two readings ran between them.
TEST(CuptiGpu, TimesAreOnTheHostsClock) {
  FLEX_SKIP_WITHOUT_CUDA();
  constexpr std::int64_t kToleranceNs = 20'000;
  const auto source = make_range_source(kGpu, RangeClock::kCupti, 0, 0);
  ASSERT_EQ(source->origin(false), "cupti");
  Stream stream(kGpu);
  source->start_blocking(stream);
  const std::int64_t before_ns = steady_now_ns();
  source->begin({.operation = 0}, &stream);
  hold_stream(stream, 200);
  source->end(&stream);
  stream.synchronize_blocking();
  const std::int64_t after_ns = steady_now_ns();
  const TimeRange range = source->ranges_blocking()[0];
  EXPECT_GE(range.begin_ns, before_ns - kToleranceNs);
  EXPECT_LE(range.end_ns, after_ns + kToleranceNs);
}

// Events, CUPTI and the kernel itself agree on what it takes.
TEST(CuptiGpu, AgreesWithEvents) {
  FLEX_SKIP_WITHOUT_CUDA();
  Stream stream(kGpu);
  hold_stream(stream, 0);
  stream.synchronize_blocking();
  std::array<double, 2> us{};
  for (const RangeClock clock : {RangeClock::kMarks, RangeClock::kCupti}) {
    const auto source = make_range_source(kGpu, clock, 0, 0);
    source->start_blocking(stream);
    hold_stream(stream, 500);  // the host gets ahead
    source->begin({.operation = 0}, &stream);
    hold_stream(stream, 1000);
    source->end(&stream);
    stream.synchronize_blocking();
    const TimeRange range = source->ranges_blocking()[0];
    us[static_cast<std::size_t>(clock)] = static_cast<double>(range.end_ns - range.begin_ns) * 1e-3;
  }
  EXPECT_NEAR(us[0], us[1], 20);
  EXPECT_NEAR(us[1], 1000, 20);
}

}  // namespace
}  // namespace flex::testing
