#include "kernels/stream.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <latch>
#include <memory>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/compare.h"
#include "tests/support/count_allocations.h"

namespace flex::testing {
namespace {

using namespace std::chrono_literals;

TEST(Stream, RunsInOrder) {
  std::vector<int> order;
  Stream stream(Device::cpu());
  for (int i = 0; i < 1000; ++i) stream.enqueue([&order, i] { order.push_back(i); });
  stream.synchronize_blocking();
  ASSERT_EQ(order.size(), 1000U);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST(Stream, RunsBesideTheHost) {
  const std::thread::id host = std::this_thread::get_id();
  std::thread::id first;
  std::thread::id second;
  Stream stream(Device::cpu());
  EXPECT_TRUE(stream.device().is_cpu());
  EXPECT_EQ(stream.native(), nullptr);
  stream.enqueue([&] { first = std::this_thread::get_id(); });
  stream.enqueue([&] { second = std::this_thread::get_id(); });
  stream.synchronize_blocking();
  EXPECT_NE(first, host);
  EXPECT_EQ(first, second);
}

// Each stream waits inside its task until the other has come as far: together they pass, alone neither can.
TEST(Stream, TwoPassALatchThatNeitherCouldPassAlone) {
  std::latch both(2);
  Stream first(Device::cpu());
  Stream second(Device::cpu());
  std::atomic<bool> passed = false;
  first.enqueue([&] {
    both.arrive_and_wait();
    passed = true;
  });
  std::this_thread::sleep_for(20ms);
  EXPECT_FALSE(passed) << "one stream alone";
  second.enqueue([&] { both.arrive_and_wait(); });
  first.synchronize_blocking();
  second.synchronize_blocking();
  EXPECT_TRUE(passed);
}

TEST(Stream, ManyPassManyLatches) {
  constexpr int kStreams = 4;
  constexpr int kRounds = 100;
  std::vector<std::unique_ptr<std::latch>> latches;
  for (int i = 0; i < kRounds; ++i) latches.push_back(std::make_unique<std::latch>(kStreams));
  std::vector<Stream> streams;
  for (int i = 0; i < kStreams; ++i) streams.emplace_back(Device::cpu());
  for (Stream& stream : streams) {
    for (const auto& latch : latches) stream.enqueue([latch = latch.get()] { latch->arrive_and_wait(); });
  }
  for (Stream& stream : streams) stream.synchronize_blocking();
  for (const auto& latch : latches) EXPECT_TRUE(latch->try_wait());
}

TEST(Stream, TakesTenThousandTasksWhileItsWorkerIsHeldUp) {
  constexpr int kTasks = 10'000;
  Stream stream(Device::cpu());
  for (int i = 0; i < 100; ++i) stream.enqueue([] {});  // the ring's head is not at its beginning
  stream.synchronize_blocking();
  std::latch release(1);
  std::vector<int> order;
  stream.enqueue([&release] { release.wait(); });
  for (int i = 0; i < kTasks; ++i) stream.enqueue([&order, i] { order.push_back(i); });
  release.count_down();
  stream.synchronize_blocking();
  ASSERT_EQ(order.size(), static_cast<std::size_t>(kTasks));
  for (int i = 0; i < kTasks; ++i) ASSERT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST(Stream, DestructorDrains) {
  int count = 0;
  {
    Stream stream(Device::cpu());
    stream.enqueue([] { std::this_thread::sleep_for(5ms); });
    for (int i = 0; i < 500; ++i) stream.enqueue([&count] { ++count; });
  }
  EXPECT_EQ(count, 500);
}

TEST(Stream, DestroysTasksAsSoonAsTheyHaveRun) {
  auto shared = std::make_shared<int>(0);
  Stream stream(Device::cpu());
  stream.enqueue([shared] { ++*shared; });
  stream.synchronize_blocking();
  EXPECT_EQ(*shared, 1);
  EXPECT_EQ(shared.use_count(), 1);
}

TEST(Stream, SynchronizeOfAnIdleStreamReturns) {
  Stream stream(Device::cpu());
  EXPECT_NO_THROW(stream.synchronize_blocking());
  EXPECT_NO_THROW(stream.synchronize_blocking());
}

TEST(Stream, MovesWithItsQueuedWork) {
  std::latch release(1);
  std::vector<int> order;
  Event event(Device::cpu());
  Stream first(Device::cpu());
  first.enqueue([&release] { release.wait(); });
  first.enqueue([&order] { order.push_back(1); });
  first.enqueue_on_failure([&order](const std::exception_ptr&) { order.push_back(-1); });
  first.record(event);
  Stream second = std::move(first);
  second.enqueue([&order] { order.push_back(2); });
  release.count_down();
  second.synchronize_blocking();
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
  EXPECT_TRUE(event.done());

  int drained = 0;
  Stream third(Device::cpu());
  third.enqueue([] { std::this_thread::sleep_for(5ms); });
  third.enqueue([&drained] { ++drained; });
  third = std::move(second);  // what the old stream held has run
  EXPECT_EQ(drained, 1);
  third.enqueue([&order] { order.push_back(3); });
  third.synchronize_blocking();
  EXPECT_EQ(order.back(), 3);
}

TEST(Stream, BorrowsCudaStreamsOnly) {
  EXPECT_EQ(error_text([] { static_cast<void>(Stream::borrow(Device::cpu(), nullptr)); }),
            "Stream::borrow takes a CUDA stream; a CPU stream is made by Stream(Device::cpu())");
}

// The worker is held up while the work is queued, so that the ring is as full in every round.
TEST(Stream, AllocatesNothingAfterWarmUp) {
  Stream first(Device::cpu());
  Stream second(Device::cpu());
  Event forth(Device::cpu());
  Event back(Device::cpu());
  int count = 0;
  const auto round = [&] {
    std::latch release(1);
    first.enqueue([&release] { release.wait(); });
    for (int i = 0; i < 500; ++i) {
      first.enqueue([&count] { ++count; });
      first.record(forth);
      second.wait(forth);
      second.enqueue([&count] { ++count; });
      second.enqueue_on_failure([&count](const std::exception_ptr&) { --count; });
      second.record(back);
      first.wait(back);
    }
    release.count_down();
    first.synchronize_blocking();
    second.synchronize_blocking();
  };
  round();
  const std::int64_t before = num_allocations();
  for (int i = 0; i < 3; ++i) round();
  EXPECT_EQ(num_allocations() - before, 0);
  EXPECT_EQ(count, 4 * 1000);
}

}  // namespace
}  // namespace flex::testing
