#include "runtime/span_recorder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>

#include "runtime/launch.h"
#include "runtime/timed_layer.h"
#include "tests/support/count_allocations.h"

namespace flex {
namespace {

using namespace std::chrono_literals;

constexpr LayerShape kShape{.num_tokens = 64,
                            .model_dim = 16,
                            .hidden_dim = 32,
                            .num_experts = 4,
                            .top_k = 2,
                            .capacity_factor = 1.25};

PlanPair both(const char* plan) { return {parse_plan(plan), parse_plan(plan)}; }

/// What one rank recorded of one pass.
struct RankSpans {
  std::vector<RecordedOperation> recorded;
  std::vector<Span> spans;
  std::vector<Schedule> schedules;
};

std::vector<RankSpans> record(const char* plan, PassOrder order = PassOrder::kAsPlanned) {
  std::vector<RankSpans> ranks(4);
  run_ranks({4, 2}, 30s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    Stream stream(Device::cpu());
    TimedLayer layer(kShape, DType::kF64, 1, context, stream);
    RankSpans& mine = ranks[static_cast<std::size_t>(world.rank())];
    const auto recorded = layer.record_blocking(both(plan), order);
    mine.recorded.assign(recorded.begin(), recorded.end());
    mine.spans = layer.recorder().spans(0);
    for (const std::int32_t pass : {0, 1, 2}) mine.schedules.push_back(layer.schedule(pass));
  });
  return ranks;
}

class SpansOfAPass : public ::testing::TestWithParam<const char*> {};

TEST_P(SpansOfAPass, CoverEveryOperationOnceInTheOrderOfIssue) {
  for (const RankSpans& rank : record(GetParam())) {
    std::size_t next = 0;
    for (std::int32_t pass = 0; pass < 3; ++pass) {
      const std::vector<Operation>& operations = rank.schedules[static_cast<std::size_t>(pass)].operations;
      for (std::size_t i = 0; i < operations.size(); ++i, ++next) {
        ASSERT_LT(next, rank.spans.size());
        const Span& span = rank.spans[next];
        EXPECT_EQ(span.name, label(operations[i]));
        EXPECT_EQ(span.stream, name(operations[i].stream));
        EXPECT_EQ(span.pass, pass);
        EXPECT_EQ(span.operation, static_cast<std::int32_t>(i));
        EXPECT_EQ(span.chunk, operations[i].num_chunks > 1 ? operations[i].chunk : -1);
        EXPECT_EQ(span.bytes, operations[i].size.bytes);
        EXPECT_EQ(span.process_group, "measured");
        EXPECT_EQ(span.origin, "host_clock");
      }
    }
    EXPECT_EQ(next, rank.spans.size());
  }
}

TEST_P(SpansOfAPass, OfOneStreamFollowEachOther) {
  for (const RankSpans& rank : record(GetParam())) {
    std::map<std::string, std::int64_t> last_end_ns;
    for (const Span& span : rank.spans) {
      EXPECT_LE(last_end_ns[span.stream], span.begin_ns) << span.name;
      EXPECT_LE(span.begin_ns, span.end_ns) << span.name;
      last_end_ns[span.stream] = span.end_ns;
    }
  }
}

TEST_P(SpansOfAPass, BeginAfterWhatTheyWaitFor) {
  for (const RankSpans& rank : record(GetParam())) {
    std::size_t first = 0;
    for (std::size_t i = 0; i < rank.recorded.size(); ++i) {
      if (rank.recorded[i].index == 0) first = i;
      for (const std::int16_t wait : rank.recorded[i].operation.waits_for()) {
        EXPECT_LE(rank.recorded[first + static_cast<std::size_t>(wait)].end_ns, rank.recorded[i].begin_ns)
            << label(rank.recorded[i].operation);
      }
    }
  }
}

// No rank leaves a collective before all have come to it, which is true of their times only on one clock.
TEST_P(SpansOfAPass, OfAllRanksAreOnOneClock) {
  const std::vector<RankSpans> ranks = record(GetParam());
  for (std::size_t i = 0; i < ranks[0].recorded.size(); ++i) {
    if (ranks[0].recorded[i].operation.kind != OperationKind::kAllToAll) continue;
    std::int64_t last_begin_ns = 0;
    for (const RankSpans& rank : ranks) last_begin_ns = std::max(last_begin_ns, rank.recorded[i].begin_ns);
    for (const RankSpans& rank : ranks) EXPECT_GE(rank.recorded[i].end_ns, last_begin_ns);
  }
}

INSTANTIATE_TEST_SUITE_P(Plans, SpansOfAPass, ::testing::Values("r0 d1 linear", "r1 d4 linear", "r1 d2 2dh"),
                         [](const auto& plan) {
                           std::string text = plan.param;
                           std::ranges::replace(text, ' ', '_');
                           return text;
                         });

TEST(SpanRecorder, OneByOneNothingRunsBesideAnother) {
  for (const RankSpans& rank : record("r1 d4 2dh", PassOrder::kOneByOne)) {
    for (std::size_t i = 1; i < rank.recorded.size(); ++i) {
      EXPECT_LE(rank.recorded[i - 1].end_ns, rank.recorded[i].begin_ns) << label(rank.recorded[i].operation);
    }
  }
}

TEST(SpanRecorder, SeesHostOperationsOnTheHost) {
  run_ranks({2, 2}, 30s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    MoeLayer layer(config_of(kShape, DType::kF64), context);
    Stream stream(Device::cpu());
    SpanRecorder recorder(Device::cpu(), world.rank());
    recorder.start_blocking(stream);
    context.executor().set_observer(&recorder);
    const Tensor x = Tensor::zeros(DType::kF64, {8, kShape.model_dim});
    Tensor y(DType::kF64, {8, kShape.model_dim});
    static_cast<void>(layer.forward(x, y, {.top_k = 1, .capacity_factor = 0, .training = false}, stream));
    stream.synchronize_blocking();
    context.executor().set_observer(nullptr);
    std::vector<std::string> on_host;
    for (const Span& span : recorder.spans(0)) {
      if (span.stream == "host") on_host.push_back(span.name);
      EXPECT_EQ(span.rank, world.rank());
    }
    EXPECT_EQ(on_host, (std::vector<std::string>{"agree_tokens", "agree_capacity"}));
  });
}

TEST(SpanRecorder, AllocatesNothingOnceItHasRecordedAsMuch) {
  run_ranks({1, 1}, 30s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    Stream stream(Device::cpu());
    TimedLayer layer(kShape, DType::kF64, 1, context, stream);
    SpanRecorder& recorder = layer.recorder();
    Executor executor(Device::cpu());
    executor.set_observer(&recorder);
    static_cast<void>(layer.record_blocking(both("r1 d4 linear"), PassOrder::kAsPlanned));
    const Schedule schedule = layer.schedule(1);
    struct Nothing : OperationRunner {
      void run(const Operation& /*operation*/, Stream& /*stream*/) override {}
    } nothing;
    const auto round = [&] {
      recorder.start_blocking(stream);
      for (int i = 0; i < 3; ++i) executor.run(schedule, stream, nothing);
      stream.synchronize_blocking();
      return recorder.recorded().size();
    };
    ASSERT_EQ(round(), 3 * schedule.operations.size());
    ASSERT_EQ(round(), 3 * schedule.operations.size());
    const std::int64_t allocations = testing::num_allocations();
    ASSERT_EQ(round(), 3 * schedule.operations.size());
    EXPECT_EQ(testing::num_allocations(), allocations);
  });
}

}  // namespace
}  // namespace flex
