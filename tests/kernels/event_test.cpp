#include "kernels/event.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <latch>
#include <thread>
#include <utility>
#include <vector>

#include "base/philox.h"
#include "kernels/stream.h"

namespace flex {
namespace {

using namespace std::chrono_literals;

constexpr auto kLongEnoughToGoWrong = 20ms;

/// Holds a stream's worker up until release().
class Gate {
 public:
  void hold(Stream& stream) {
    stream.enqueue([this] { open_.wait(); });
  }
  void release() { open_.count_down(); }

 private:
  std::latch open_{1};
};

TEST(Event, IsDoneBeforeItsFirstRecord) {
  const Event event(Device::cpu());
  EXPECT_TRUE(event.done());
  EXPECT_NO_THROW(event.wait_blocking());
  EXPECT_EQ(event.native(), nullptr);
  Stream stream(Device::cpu());
  stream.wait(event);
  stream.synchronize_blocking();
}

TEST(Event, IsDoneOnceItsStreamHasComeThatFar) {
  Gate gate;
  Event event(Device::cpu());
  int value = 0;
  Stream stream(Device::cpu());
  gate.hold(stream);
  stream.enqueue([&value] { value = 5; });
  stream.record(event);
  EXPECT_FALSE(event.done());
  gate.release();
  event.wait_blocking();
  EXPECT_EQ(value, 5);
  EXPECT_TRUE(event.done());
}

TEST(Event, WaitDoesNotBlockTheHost) {
  Gate gate;
  Event event(Device::cpu());
  std::atomic<bool> ran = false;
  Stream recorder(Device::cpu());
  Stream waiter(Device::cpu());
  gate.hold(recorder);
  recorder.record(event);
  waiter.wait(event);
  waiter.enqueue([&ran] { ran = true; });
  std::this_thread::sleep_for(kLongEnoughToGoWrong);
  EXPECT_FALSE(ran);
  gate.release();
  waiter.synchronize_blocking();
  EXPECT_TRUE(ran);
}

// A chain of tasks goes back and forth between two streams in a random pattern. Only the events order its
// steps: the counter is a plain int, and the thread sanitizer sees a missing edge even where the value is
// right.
TEST(Event, OrdersTwoStreamsInRandomPatterns) {
  Stream streams[] = {Stream(Device::cpu()), Stream(Device::cpu())};
  Event events[] = {Event(Device::cpu()), Event(Device::cpu()), Event(Device::cpu())};
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    PhiloxStream random(seed);
    int counter = 0;
    bool in_order = true;
    int expected = 0;
    std::int64_t current = 0;
    for (int step = 0; step < 30; ++step) {
      const std::int64_t yields = random.below(3);
      streams[current].enqueue([&counter, &in_order, expected, yields] {
        for (std::int64_t i = 0; i < yields; ++i) std::this_thread::yield();
        in_order = in_order && counter == expected;
        ++counter;
      });
      ++expected;
      if (random.below(2) == 0) continue;
      Event& event = events[random.below(3)];
      streams[current].record(event);
      current = 1 - current;
      streams[current].wait(event);
    }
    streams[current].synchronize_blocking();  // the end of the chain: all the rest comes before it
    ASSERT_TRUE(in_order) << "seed " << seed;
    ASSERT_EQ(counter, expected) << "seed " << seed;
  }
}

TEST(Event, ReRecordedLetsAnEarlierWaiterPass) {
  Gate waiter_gate;
  Gate recorder_gate;
  Event event(Device::cpu());
  Stream recorder(Device::cpu());
  Stream waiter(Device::cpu());
  recorder.record(event);
  waiter_gate.hold(waiter);
  waiter.wait(event);
  recorder_gate.hold(recorder);
  recorder.record(event);
  waiter_gate.release();
  waiter.synchronize_blocking();  // would hang if it waited for the second record
  EXPECT_FALSE(event.done());
  recorder_gate.release();
  event.wait_blocking();
}

// Two streams record the same event, and the later record is reached first.
TEST(Event, SharedByStreamsCountsEachRecordByItself) {
  Gate gate;
  Event event(Device::cpu());
  std::atomic<bool> passed = false;
  Stream slow(Device::cpu());
  Stream quick(Device::cpu());
  Stream waiter(Device::cpu());
  gate.hold(slow);
  slow.record(event);
  waiter.wait(event);
  waiter.enqueue([&passed] { passed = true; });
  quick.record(event);
  event.wait_blocking();  // the last record: quick's
  EXPECT_TRUE(event.done());
  std::this_thread::sleep_for(kLongEnoughToGoWrong);
  EXPECT_FALSE(passed) << "the waiter asked for slow's record";
  gate.release();
  waiter.synchronize_blocking();
  slow.synchronize_blocking();
  EXPECT_TRUE(event.done()) << "slow's earlier record does not take quick's back";
  event.wait_blocking();
}

TEST(Event, MovesWithItsRecord) {
  Gate gate;
  Event first(Device::cpu());
  Stream stream(Device::cpu());
  gate.hold(stream);
  stream.record(first);
  Event second = std::move(first);
  EXPECT_FALSE(second.done());
  gate.release();
  second.wait_blocking();
  Event third(Device::cpu());
  third = std::move(second);
  EXPECT_TRUE(third.done());
}

// Who has waited may destroy the event: the recording worker is done with it by then.
TEST(Event, MayBeDestroyedRightAfterTheWait) {
  Stream stream(Device::cpu());
  for (int i = 0; i < 2000; ++i) {
    Event event(Device::cpu());
    stream.record(event);
    event.wait_blocking();
  }
}

}  // namespace
}  // namespace flex
