#include <gmock/gmock.h>

#include <exception>
#include <latch>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/event.h"
#include "kernels/stream.h"
#include "tests/support/compare.h"

/// What happens after a task of a CPU stream has thrown.
namespace flex::testing {
namespace {

struct TaskFailure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void enqueue_failure(Stream& stream, const char* text = "no coffee") {
  stream.enqueue([text] { throw TaskFailure(text); });
}

std::string synchronize_error(Stream& stream) {
  return error_text<TaskFailure>([&] { stream.synchronize_blocking(); });
}

std::string text_of(const std::exception_ptr& failure) {
  return error_text<TaskFailure>([&] { std::rethrow_exception(failure); });
}

TEST(StreamFailure, SkipsLaterWork) {
  std::vector<int> ran;
  Stream stream(Device::cpu());
  stream.enqueue([&ran] { ran.push_back(1); });
  enqueue_failure(stream);
  stream.enqueue([&ran] { ran.push_back(2); });
  enqueue_failure(stream, "the second failure is never reached");
  EXPECT_EQ(synchronize_error(stream), "no coffee");
  EXPECT_EQ(ran, std::vector<int>{1});
}

TEST(StreamFailure, IsRethrownOnceAndTheStreamWorksAgain) {
  Stream stream(Device::cpu());
  for (int round = 0; round < 3; ++round) {
    int ran = 0;
    enqueue_failure(stream);
    EXPECT_EQ(synchronize_error(stream), "no coffee");
    EXPECT_NO_THROW(stream.synchronize_blocking());
    stream.enqueue([&ran] { ++ran; });
    EXPECT_NO_THROW(stream.synchronize_blocking());
    EXPECT_EQ(ran, 1);
  }
}

TEST(StreamFailure, DestroysSkippedTasks) {
  auto shared = std::make_shared<int>(0);
  Stream stream(Device::cpu());
  enqueue_failure(stream);
  stream.enqueue([shared] { ++*shared; });
  EXPECT_EQ(synchronize_error(stream), "no coffee");
  EXPECT_EQ(*shared, 0);
  EXPECT_EQ(shared.use_count(), 1);
}

TEST(StreamFailure, PassesThroughEvents) {
  int ran = 0;
  Event first(Device::cpu());
  Event second(Device::cpu());
  Stream source(Device::cpu());
  Stream middle(Device::cpu());
  Stream last(Device::cpu());
  enqueue_failure(source);
  source.record(first);
  middle.wait(first);
  middle.enqueue([&ran] { ++ran; });
  middle.record(second);
  last.wait(second);
  last.enqueue([&ran] { ++ran; });
  EXPECT_EQ(synchronize_error(last), "no coffee");
  EXPECT_EQ(synchronize_error(middle), "no coffee");
  EXPECT_EQ(error_text<TaskFailure>([&] { first.wait_blocking(); }), "no coffee");
  EXPECT_TRUE(first.done());
  EXPECT_EQ(synchronize_error(source), "no coffee");
  EXPECT_EQ(ran, 0);

  source.record(first);  // a new record of a stream that works again is healthy
  middle.wait(first);
  middle.enqueue([&ran] { ++ran; });
  EXPECT_NO_THROW(middle.synchronize_blocking());
  EXPECT_NO_THROW(first.wait_blocking());
  EXPECT_EQ(ran, 1);
}

TEST(StreamFailure, BeforeTheRecordIsNotSeenByWaitersOfAnEarlierOne) {
  std::latch open(1);
  Event event(Device::cpu());
  Stream source(Device::cpu());
  Stream waiter(Device::cpu());
  source.record(event);
  waiter.enqueue([&open] { open.wait(); });
  waiter.wait(event);
  enqueue_failure(source);
  source.record(event);
  EXPECT_EQ(error_text<TaskFailure>([&] { event.wait_blocking(); }), "no coffee");
  open.count_down();
  EXPECT_NO_THROW(waiter.synchronize_blocking());
  EXPECT_EQ(synchronize_error(source), "no coffee");
}

TEST(StreamFailure, IsNotForgottenByALaterHealthyRecord) {
  std::latch open(1);
  Event event(Device::cpu());
  Stream source(Device::cpu());
  Stream waiter(Device::cpu());
  enqueue_failure(source);
  source.record(event);
  waiter.enqueue([&open] { open.wait(); });
  waiter.wait(event);
  EXPECT_EQ(synchronize_error(source), "no coffee");
  source.record(event);
  EXPECT_NO_THROW(event.wait_blocking());
  open.count_down();
  EXPECT_EQ(synchronize_error(waiter), "no coffee");
}

// A failed stream skips its waits, so that its own records come early: those of others on the same event must
// still count.
TEST(StreamFailure, OfASharedEventsStreamDoesNotHoldOthersUp) {
  std::latch open(1);
  Event border(Device::cpu());
  Stream compute(Device::cpu());
  Stream communication(Device::cpu());
  enqueue_failure(communication);
  compute.enqueue([&open] { open.wait(); });
  compute.record(border);
  communication.wait(border);
  communication.record(border);
  EXPECT_EQ(synchronize_error(communication), "no coffee");
  compute.wait(border);
  open.count_down();
  EXPECT_EQ(synchronize_error(compute), "no coffee");
}

TEST(StreamFailure, HandlerRunsOnlyOnFailure) {
  std::vector<std::string> seen;
  Stream stream(Device::cpu());
  const auto note = [&seen](const std::exception_ptr& failure) { seen.push_back(text_of(failure)); };
  stream.enqueue_on_failure(note);
  stream.synchronize_blocking();
  EXPECT_TRUE(seen.empty());

  stream.enqueue_on_failure(note);  // before the failure: not yet
  enqueue_failure(stream);
  stream.enqueue_on_failure(note);
  EXPECT_EQ(synchronize_error(stream), "no coffee");
  EXPECT_EQ(seen, std::vector<std::string>{"no coffee"});

  stream.enqueue_on_failure(note);  // after synchronize_blocking() the stream is healthy
  stream.synchronize_blocking();
  EXPECT_EQ(seen.size(), 1U);
}

TEST(StreamFailure, OfAHandlerDoesNotReplaceTheFirst) {
  Stream stream(Device::cpu());
  enqueue_failure(stream);
  stream.enqueue_on_failure([](const std::exception_ptr&) { throw TaskFailure("no tea either"); });
  EXPECT_EQ(synchronize_error(stream), "no coffee");
  EXPECT_NO_THROW(stream.synchronize_blocking());
}

TEST(StreamFailure, HandlerSeesAFailureThatCameThroughAnEvent) {
  std::string seen;
  Event event(Device::cpu());
  Stream source(Device::cpu());
  Stream waiter(Device::cpu());
  enqueue_failure(source);
  source.record(event);
  waiter.wait(event);
  waiter.enqueue_on_failure([&seen](const std::exception_ptr& failure) { seen = text_of(failure); });
  EXPECT_EQ(synchronize_error(waiter), "no coffee");
  EXPECT_EQ(seen, "no coffee");
}

TEST(StreamFailure, OfAnyTypeMayEndWithTheStream) {
  {
    Stream stream(Device::cpu());
    enqueue_failure(stream);
  }
  {
    Stream stream(Device::cpu());
    stream.enqueue([] { throw 42; });  // NOLINT(hicpp-exception-baseclass)
  }
  Stream stream(Device::cpu());
  stream.enqueue([] { throw 42; });  // NOLINT(hicpp-exception-baseclass)
  EXPECT_THROW(stream.synchronize_blocking(), int);
}

}  // namespace
}  // namespace flex::testing
