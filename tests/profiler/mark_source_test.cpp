#include "profiler/mark_source.h"

#include <gtest/gtest.h>

#include <chrono>
#include <stdexcept>
#include <thread>

#include "tests/support/count_allocations.h"

namespace flex {
namespace {

using namespace std::chrono_literals;

constexpr std::int64_t kNsPerMs = 1'000'000;

class HostMarks : public ::testing::Test {
 protected:
  Stream stream_{Device::cpu()};
  std::unique_ptr<MarkSource> marks_ = make_mark_source(Device::cpu());
};

TEST_F(HostMarks, AreTakenWhereTheStreamComesToThem) {
  const std::int64_t before_ns = steady_now_ns();
  marks_->start_blocking(stream_);
  marks_->mark(stream_);
  stream_.enqueue([] { std::this_thread::sleep_for(20ms); });
  marks_->mark(stream_);
  marks_->mark_now();  // while the stream sleeps
  stream_.synchronize_blocking();
  const auto times_ns = marks_->times_ns();
  ASSERT_EQ(times_ns.size(), 3U);
  EXPECT_LE(before_ns, times_ns[0]);
  EXPECT_GE(times_ns[1] - times_ns[0], 20 * kNsPerMs);
  EXPECT_LT(times_ns[2], times_ns[1]);
  EXPECT_LE(times_ns[1], steady_now_ns());
}

TEST_F(HostMarks, OfSeveralStreamsAreOnOneClock) {
  Stream other(Device::cpu());
  Event done(Device::cpu());
  marks_->start_blocking(stream_);
  stream_.enqueue([] { std::this_thread::sleep_for(5ms); });
  marks_->mark(stream_);
  stream_.record(done);
  other.wait(done);
  marks_->mark(other);
  other.synchronize_blocking();
  EXPECT_LE(marks_->times_ns()[0], marks_->times_ns()[1]);
}

TEST_F(HostMarks, ThatAFailedStreamDoesNotReachSaySo) {
  marks_->start_blocking(stream_);
  marks_->mark(stream_);
  stream_.enqueue([] { throw std::runtime_error("a kernel failed"); });
  marks_->mark(stream_);
  EXPECT_THROW(stream_.synchronize_blocking(), std::runtime_error);
  EXPECT_NE(marks_->times_ns()[0], MarkSource::kNotReached);
  EXPECT_EQ(marks_->times_ns()[1], MarkSource::kNotReached);
}

TEST_F(HostMarks, MayBeDestroyedWhileTheyAreQueued) {
  stream_.enqueue([] { std::this_thread::sleep_for(5ms); });
  marks_->start_blocking(stream_);
  marks_->mark(stream_);
  marks_.reset();
  EXPECT_NO_THROW(stream_.synchronize_blocking());
}

TEST_F(HostMarks, AllocateNothingOnceTheyHaveHeldAsMany) {
  const auto round = [&] {
    marks_->start_blocking(stream_);
    for (int i = 0; i < 1000; ++i) marks_->mark(stream_);
    stream_.synchronize_blocking();
    return marks_->times_ns().size();
  };
  ASSERT_EQ(round(), 1000U);
  ASSERT_EQ(round(), 1000U);  // the stream's queue may have grown in the first
  const std::int64_t allocations = testing::num_allocations();
  ASSERT_EQ(round(), 1000U);
  EXPECT_EQ(testing::num_allocations(), allocations);
}

}  // namespace
}  // namespace flex
