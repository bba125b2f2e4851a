#include "profiler/cupti_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "base/error.h"
#include "profiler/mark_ranges.h"
#include "tests/base/expect_error.h"
#include "tests/profiler/cupti_fixture.h"

namespace flex {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::FakeCupti;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CuptiSources : public testing::CuptiFixture {
 protected:
  std::unique_ptr<RangeSource> make(int rank = 0, int local_rank = 0) {
    return make_cupti_source(FakeCupti::api(), settings_, Device::cpu(), rank, local_rank);
  }
};

TEST_F(CuptiSources, ARangeIsFromTheFirstToTheLastKernel) {
  const auto source = make();
  source->start_blocking(stream_);
  source->begin({.layer = 2, .pass = 1, .operation = 0}, &stream_);
  const std::int64_t launched_ns = fake_.launch({{}, {}, {}});
  source->end(&stream_);
  source->begin({.layer = 2, .pass = 1, .operation = 1}, &stream_);
  source->end(&stream_);
  source->begin({.layer = 2, .pass = 1, .operation = 2}, nullptr);
  fake_.launch({{}});  // a copy of the host's
  std::this_thread::sleep_for(2ms);
  source->end(nullptr);
  const std::span<const TimeRange> ranges = source->ranges_blocking();
  ASSERT_EQ(ranges.size(), 3U);
  EXPECT_EQ(ranges[0].end_ns - ranges[0].begin_ns, 3000);
  EXPECT_LE(std::abs(ranges[0].begin_ns - launched_ns), 1'000'000);
  EXPECT_EQ(ranges[1], TimeRange{}) << "no kernel: not seen";
  EXPECT_GE(ranges[2].end_ns - ranges[2].begin_ns, 2'000'000) << "by the host's clock";
  EXPECT_EQ(source->origin(false), "cupti");
  EXPECT_EQ(source->origin(true), "host_clock");
  EXPECT_EQ(source->remarks(), "");
  EXPECT_EQ(source->ranges_blocking().size(), 3U) << "and again";
}

TEST_F(CuptiSources, EachKernelIsInTheDetails) {
  const auto source = make(5);
  source->start_blocking(stream_);
  source->begin({.iteration = 9, .layer = 2, .pass = 1, .operation = 3, .chunk = 1}, &stream_);
  fake_.launch({{.name = "_ZN4flex4gemmEv", .stream = 13}, {.name = "not mangled"}});
  fake_.add_record(
      testing::forge_overhead(1U << 16, FakeCupti::kClockAheadNs, FakeCupti::kClockAheadNs + 10));
  source->end(&stream_);
  static_cast<void>(source->ranges_blocking());
  const std::vector<Span> details = source->details();
  ASSERT_EQ(details.size(), 3U);
  const Span expected{.name = "flex::gemm()",
                      .process_group = "measured",
                      .rank = 5,
                      .stream = "cuda:0 stream 13",
                      .begin_ns = details[0].begin_ns,
                      .end_ns = details[0].begin_ns + 1000,
                      .iteration = 9,
                      .layer = 2,
                      .pass = 1,
                      .operation = 3,
                      .chunk = 1,
                      .origin = "cupti"};
  EXPECT_EQ(details[0], expected);
  EXPECT_EQ(details[1].name, "not mangled");
  EXPECT_EQ(details[2].name, "cupti buffer flush");
  EXPECT_EQ(details[2].stream, "profiler");
  EXPECT_EQ(details[2].end_ns - details[2].begin_ns, 10);
}

TEST_F(CuptiSources, ARecordingForgetsTheOneBefore) {
  const auto source = make();
  for (std::int64_t iteration = 0; iteration < 3; ++iteration) {
    source->start_blocking(stream_);
    source->begin({.iteration = iteration, .operation = 1}, &stream_);
    fake_.launch({{}});
    source->end(&stream_);
    if (iteration == 1) continue;  // nobody asks
    ASSERT_EQ(source->ranges_blocking().size(), 1U);
    EXPECT_EQ(source->ranges_blocking()[0].end_ns - source->ranges_blocking()[0].begin_ns, 1000);
    EXPECT_EQ(source->details().size(), 1U);
  }
}

TEST_F(CuptiSources, BetweenRecordingsNothingIsRecorded) {
  const auto source = make();
  constexpr Sampling kSampling{.every = 3};
  std::vector<std::int64_t> seen;
  for (std::int64_t iteration = 0; iteration < 7; ++iteration) {
    if (kSampling.takes(iteration)) source->start_blocking(stream_);
    source->begin({.iteration = iteration, .operation = 1}, &stream_);
    fake_.launch({{}});
    source->end(&stream_);
    if (!kSampling.takes(iteration)) continue;
    static_cast<void>(source->ranges_blocking());
    for (const Span& span : source->details()) seen.push_back(span.iteration);
  }
  EXPECT_THAT(seen, ElementsAre(0, 3, 6));
}

TEST_F(CuptiSources, RecordsThatComeTooLateAreCounted) {
  settings_.flush_timeout = 0ms;
  fake_.records_per_buffer = 100;
  const auto source = make();
  const auto record = [&](std::int64_t iteration) {
    source->start_blocking(stream_);
    source->begin({.iteration = iteration, .operation = 1}, &stream_);
    fake_.launch({{}});
    source->end(&stream_);
    return source->ranges_blocking()[0];
  };
  fake_.delivery = FakeCupti::Delivery::kAfterFlush;
  EXPECT_EQ(record(0), TimeRange{});
  fake_.delivery = FakeCupti::Delivery::kInFlush;
  EXPECT_NE(record(1), TimeRange{});
  EXPECT_EQ(source->details().size(), 1U) << "not what belongs to the recording before";
  EXPECT_THAT(source->remarks(), HasSubstr("1 too late"));
}

TEST_F(CuptiSources, SayWhatIsMissing) {
  const auto source = make();
  source->start_blocking(stream_);
  fake_.drop(4);
  static_cast<void>(source->ranges_blocking());
  EXPECT_EQ(source->remarks(), "CUPTI: 0 activities, 4 lost");
}

TEST_F(CuptiSources, AGraphsLaunchIsOneRangeAndItsNodesAreDetails) {
  const auto source = make();
  source->begin({.layer = 1, .pass = 1, .operation = 6}, &stream_);  // captured, not recorded
  fake_.create_node(21);
  source->end(&stream_);
  fake_.clone_node(121, 21);
  source->start_blocking(stream_);
  source->begin({.iteration = 4, .layer = 1}, &stream_);
  fake_.launch({{.graph_node = 121}, {}});
  source->end(&stream_);
  ASSERT_EQ(source->ranges_blocking().size(), 1U);
  EXPECT_EQ(source->ranges_blocking()[0].end_ns - source->ranges_blocking()[0].begin_ns, 2000);
  const std::vector<Span> details = source->details();
  ASSERT_EQ(details.size(), 2U);
  EXPECT_EQ(details[0].operation, 6);
  EXPECT_EQ(details[0].iteration, 4);
  EXPECT_EQ(details[1].operation, -1);
}

TEST_F(CuptiSources, AnswerMisuse) {
  const auto source = make();
  EXPECT_EQ(message_of<InputError>([&] { source->end(&stream_); }),
            "profiler: a range ends that has not begun");
  source->begin({}, &stream_);
  EXPECT_EQ(message_of<InputError>([&] { source->begin({}, &stream_); }),
            "profiler: a range begins inside another");
  EXPECT_EQ(message_of<InputError>([&] { make(0, 63); }),
            "CUPTI's records tell 63 ranks of a process apart; this one is 63");
}

TEST_F(CuptiSources, ThatGoWhileTheyRecordLeaveNothingBehind) {
  {
    const auto source = make();
    source->start_blocking(stream_);
    source->begin({.operation = 1}, &stream_);
    fake_.launch({{}});
  }
  EXPECT_THAT(fake_.enabled(), IsEmpty());
  EXPECT_EQ(fake_.num_calls("cuptiActivityPopExternalCorrelationId"), 2);  // the sentinel's too
  EXPECT_EQ(fake_.num_calls("cuptiFinalize"), 1);
}

TEST_F(CuptiSources, FallBackToMarksWithAWarning) {
  fake_.fail("cuptiSubscribe", cupti::kMultipleSubscribersNotSupported);
  ::testing::internal::CaptureStderr();
  const auto source = make();
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr("warning"), HasSubstr("another tool holds CUPTI"),
                    HasSubstr("using host_clock instead of CUPTI")));
  source->start_blocking(stream_);
  source->begin({}, &stream_);
  stream_.enqueue([] { std::this_thread::sleep_for(2ms); });
  source->end(&stream_);
  source->begin({}, nullptr);
  source->end(nullptr);
  stream_.synchronize_blocking();
  const std::span<const TimeRange> ranges = source->ranges_blocking();
  ASSERT_EQ(ranges.size(), 2U);
  EXPECT_GE(ranges[0].end_ns - ranges[0].begin_ns, 2'000'000);
  EXPECT_LE(ranges[1].begin_ns, ranges[1].end_ns);
  EXPECT_THAT(source->details(), IsEmpty());
  EXPECT_EQ(source->remarks(), "");
}

TEST(Samplings, TakeOneInSo) {
  EXPECT_TRUE(Sampling{.every = 50}.takes(0));
  EXPECT_FALSE(Sampling{.every = 50}.takes(49));
  EXPECT_TRUE(Sampling{.every = 50}.takes(50));
  for (const std::int64_t every : {0, 1}) EXPECT_TRUE(Sampling{.every = every}.takes(7));
}

TEST(RangeSources, OfTheCpuAreMarksWhateverIsAskedFor) {
  EXPECT_EQ(make_range_source(Device::cpu(), RangeClock::kMarks, 0, 0)->origin(false), "host_clock");
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(make_range_source(Device::cpu(), RangeClock::kCupti, 0, 0)->origin(false), "host_clock");
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("CUPTI sees no work of cpu"));
}

}  // namespace
}  // namespace flex
