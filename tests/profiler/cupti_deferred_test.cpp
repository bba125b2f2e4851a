// Recordings that end before their work does, and are fetched later.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <latch>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "base/error.h"
#include "profiler/cupti_source.h"
#include "profiler/mark_ranges.h"
#include "tests/base/expect_error.h"
#include "tests/profiler/cupti_fixture.h"

namespace flex {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using testing::FakeCupti;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// Work of a stream that runs until it is let go.
class HeldWork {
 public:
  explicit HeldWork(Stream& stream) {
    stream.enqueue([gate = gate_] { gate->wait(); });
  }
  ~HeldWork() { finish(); }
  HeldWork(const HeldWork&) = delete;
  HeldWork& operator=(const HeldWork&) = delete;
  void finish() {
    if (!is_finished_) gate_->count_down();
    is_finished_ = true;
  }

 private:
  std::shared_ptr<std::latch> gate_ = std::make_shared<std::latch>(1);
  bool is_finished_ = false;
};

class DeferredCupti : public testing::CuptiFixture {
 protected:
  std::unique_ptr<RangeSource> make(int local_rank = 0) {
    return make_cupti_source(FakeCupti::api(), settings_, Device::cpu(), local_rank, local_rank);
  }
  // Two operations, of two kernels and of one.
  void run_iteration(RangeSource& source, std::int64_t iteration) {
    for (const std::int32_t operation : {0, 1}) {
      source.begin({.iteration = iteration, .layer = 1, .pass = 0, .operation = operation}, &stream_);
      fake_.launch(operation == 0 ? std::vector<FakeCupti::Launch>{{}, {}}
                                  : std::vector<FakeCupti::Launch>{{}});
      source.end(&stream_);
    }
  }
  void record(RangeSource& source, std::int64_t iteration) {
    source.start_blocking(stream_);
    run_iteration(source, iteration);
    source.stop(stream_);
  }
  // As a loop does, between iterations; the fetch is another thread's.
  static std::optional<RangeRecording> poll(RangeSource& source) {
    constexpr auto kPatience = 60s;
    const auto until = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < until) {
      if (auto recording = source.take_stopped()) return recording;
      std::this_thread::sleep_for(100us);
    }
    return std::nullopt;
  }
  static void expect_whole(const std::optional<RangeRecording>& recording, std::int64_t iteration) {
    ASSERT_TRUE(recording.has_value()) << "iteration " << iteration;
    ASSERT_EQ(recording->ranges.size(), 2U);
    EXPECT_EQ(recording->ranges[0].end_ns - recording->ranges[0].begin_ns, 2000);
    EXPECT_EQ(recording->ranges[1].end_ns - recording->ranges[1].begin_ns, 1000);
    std::vector<std::int32_t> operations;
    for (const Span& span : recording->details) {
      EXPECT_EQ(span.iteration, iteration);
      operations.push_back(span.operation);
    }
    EXPECT_THAT(operations, ElementsAre(0, 0, 1));
  }
};

TEST_F(DeferredCupti, RecordsComeIterationsLater) {
  const auto source = make();
  HeldWork work(stream_);
  fake_.kernels_go_on = true;
  record(*source, 0);
  EXPECT_THAT(fake_.enabled(), IsEmpty()) << "the next iteration leaves no records";
  const int num_flushes = fake_.num_calls("cuptiActivityFlushAll");
  for (std::int64_t iteration = 1; iteration < 5; ++iteration) {
    run_iteration(*source, iteration);
    EXPECT_FALSE(source->take_stopped().has_value()) << "its work still runs";
  }
  EXPECT_EQ(fake_.num_calls("cuptiActivityFlushAll"), num_flushes) << "nor is anything asked for";
  fake_.finish_kernels();
  work.finish();
  expect_whole(poll(*source), 0);
  EXPECT_FALSE(source->take_stopped().has_value());
  EXPECT_FALSE(source->take_stopped_blocking().has_value());
  EXPECT_EQ(source->remarks(), "");
}

// The first is asked for while the second's kernels run: these must not come without their times, and what
// has come of their calls must not be forgotten.
TEST_F(DeferredCupti, TwoRecordingsAreUnderWayAtOnce) {
  for (const std::uint64_t seed : {1, 2, 3, 4, 5, 6, 7, 8}) {
    SCOPED_TRACE(seed);
    fake_.seed = seed;
    const auto source = make();
    HeldWork first(stream_);
    record(*source, 0);  // its kernels are done by the time the stream is
    HeldWork second(stream_);
    fake_.kernels_go_on = true;
    record(*source, 3);
    first.finish();
    const int num_flushes = fake_.num_calls("cuptiActivityFlushAll");
    while (fake_.num_calls("cuptiActivityFlushAll") == num_flushes) {
      EXPECT_FALSE(source->take_stopped().has_value());
    }
    fake_.finish_kernels();
    second.finish();
    expect_whole(poll(*source), 0);
    expect_whole(poll(*source), 3);
    EXPECT_EQ(source->remarks(), "");
  }
}

TEST_F(DeferredCupti, AreTakenInTheOrderOfTheirIterations) {
  const auto source = make();
  for (const std::int64_t iteration : {0, 50, 100}) record(*source, iteration);
  for (const std::int64_t iteration : {0, 50, 100}) expect_whole(source->take_stopped_blocking(), iteration);
  EXPECT_FALSE(source->take_stopped_blocking().has_value());
}

TEST_F(DeferredCupti, ARunEndsWithAllThatIsUnderWay) {
  const auto source = make();
  HeldWork work(stream_);
  fake_.kernels_go_on = true;
  record(*source, 0);
  record(*source, 1);
  std::thread device([&] {
    std::this_thread::sleep_for(5ms);
    fake_.finish_kernels();
    work.finish();
  });
  expect_whole(source->take_stopped_blocking(), 0);
  expect_whole(source->take_stopped_blocking(), 1);
  device.join();
  EXPECT_EQ(source->remarks(), "");
}

// A blocking read of a later recording brings the stopped one, and neither takes the other's kernels.
TEST_F(DeferredCupti, ABlockingReadLeavesThemWhole) {
  const auto source = make();
  record(*source, 4);
  source->start_blocking(stream_);
  run_iteration(*source, 5);
  stream_.synchronize_blocking();
  const std::span<const TimeRange> ranges = source->ranges_blocking();
  ASSERT_EQ(ranges.size(), 2U);
  EXPECT_EQ(ranges[0].end_ns - ranges[0].begin_ns, 2000);
  for (const Span& span : source->details()) EXPECT_EQ(span.iteration, 5);
  expect_whole(source->take_stopped(), 4);
}

TEST_F(DeferredCupti, ASourceThatGoesWaitsForItsWork) {
  {
    HeldWork work(stream_);
    const auto source = make();
    fake_.kernels_go_on = true;
    record(*source, 0);
    record(*source, 1);
    source->start_blocking(stream_);
    run_iteration(*source, 2);
    std::thread device([&] {
      std::this_thread::sleep_for(5ms);
      fake_.finish_kernels();
      work.finish();
    });
    device.join();
  }
  EXPECT_THAT(fake_.enabled(), IsEmpty());
  EXPECT_EQ(fake_.num_calls("cuptiFinalize"), 1) << "quiet: nothing is under way any more";
}

// Ranks stop and fetch at their own pace; a forced flush waits for all of them.
TEST_F(DeferredCupti, RanksOfAProcessLeaveEachOtherWhole) {
  constexpr int kRanks = 4;
  constexpr std::int64_t kIterations = 12;
  const auto keeper = make(kRanks);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < kRanks; ++rank) {
    ranks.emplace_back([&, rank] {
      const auto source = make(rank);
      Stream stream(Device::cpu());
      std::int64_t next = 0;
      for (std::int64_t iteration = 0; iteration < kIterations; ++iteration) {
        if (iteration % 2 == 0) source->start_blocking(stream);
        run_iteration(*source, iteration);
        stream.enqueue([] { std::this_thread::sleep_for(200us); });
        if (iteration % 2 == 0) source->stop(stream);
        while (const auto recording = source->take_stopped()) {
          expect_whole(recording, next);
          next += 2;
        }
      }
      while (const auto recording = source->take_stopped_blocking()) {
        expect_whole(recording, next);
        next += 2;
      }
      EXPECT_EQ(next, kIterations);
      EXPECT_EQ(source->remarks(), "");
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

// What the blocking read of one rank does must wait for the stopped work of another.
TEST_F(DeferredCupti, AnotherRanksBlockingReadWaitsForWhatRuns) {
  const auto slow = make(0);
  const auto fast = make(1);
  HeldWork work(stream_);
  fake_.kernels_go_on = true;
  record(*slow, 0);
  fake_.kernels_go_on = false;
  fast->start_blocking(stream_);
  run_iteration(*fast, 0);
  std::thread reader([&] { EXPECT_EQ(fast->ranges_blocking().size(), 2U); });
  std::this_thread::sleep_for(2ms);
  fake_.finish_kernels();
  work.finish();
  expect_whole(poll(*slow), 0);
  reader.join();
  EXPECT_EQ(slow->remarks(), "");
  EXPECT_EQ(fast->details().size(), 3U);
}

TEST_F(DeferredCupti, AFetchThatFailsIsToldOnce) {
  const auto source = make();
  record(*source, 0);
  fake_.fail("cuptiActivityFlushAll");
  EXPECT_EQ(message_of<DeviceError>([&] { static_cast<void>(poll(*source)); }),
            "cuptiActivityFlushAll: CUPTI_ERROR_UNKNOWN");
  fake_.succeed();
  const auto recording = source->take_stopped();
  ASSERT_TRUE(recording.has_value()) << "the next ones must not wait for it";
  EXPECT_EQ(recording->ranges[0], TimeRange{});
  record(*source, 1);
  expect_whole(poll(*source), 1);
  EXPECT_THAT(source->remarks(), HasSubstr("3 too late"));
}

TEST_F(DeferredCupti, OneIterationIsNotRecordedTwiceAtOnce) {
  const auto source = make();
  record(*source, 7);
  source->start_blocking(stream_);
  EXPECT_EQ(message_of<InputError>([&] { run_iteration(*source, 7); }),
            "profiler: iteration 7 is recorded again before its first recording was taken");
  run_iteration(*source, 8);
  source->stop(stream_);
  source->stop(stream_);  // nothing to stop
  expect_whole(source->take_stopped_blocking(), 7);
  expect_whole(source->take_stopped_blocking(), 8);
  EXPECT_FALSE(source->take_stopped_blocking().has_value());
}

TEST(DeferredMarks, AreReadWhenTheirStreamHasComeToThem) {
  Stream stream(Device::cpu());
  MarkRanges source(Device::cpu());
  HeldWork work(stream);
  for (const std::int64_t iteration : {0, 1}) {
    source.start_blocking(stream);
    source.begin({.iteration = iteration}, &stream);
    stream.enqueue([] { std::this_thread::sleep_for(2ms); });
    source.end(&stream);
    source.stop(stream);
    source.begin({}, &stream);  // between recordings nothing is marked
    source.end(&stream);
  }
  EXPECT_FALSE(source.take_stopped().has_value());
  work.finish();
  std::int64_t end_ns = 0;
  for (int i = 0; i < 2; ++i) {
    const auto recording = source.take_stopped_blocking();
    ASSERT_TRUE(recording.has_value());
    ASSERT_EQ(recording->ranges.size(), 1U);
    EXPECT_GE(recording->ranges[0].begin_ns, end_ns);
    end_ns = recording->ranges[0].end_ns;
    EXPECT_GE(end_ns - recording->ranges[0].begin_ns, 2'000'000);
  }
  EXPECT_FALSE(source.take_stopped_blocking().has_value());
  EXPECT_THAT(source.ranges_blocking(), IsEmpty());
}

}  // namespace
}  // namespace flex
