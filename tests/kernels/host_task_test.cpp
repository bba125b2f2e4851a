#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <utility>

#include "kernels/stream.h"

namespace flex {
namespace {

// Counts what happens to a capture.
struct Counts {
  int alive = 0;
  int moves = 0;
  int copies = 0;
  int calls = 0;
};

class Capture {
 public:
  explicit Capture(Counts& counts) : counts_(&counts) { ++counts.alive; }
  Capture(const Capture& other) : counts_(other.counts_) {
    ++counts_->alive;
    ++counts_->copies;
  }
  Capture(Capture&& other) noexcept : counts_(other.counts_) {
    ++counts_->alive;
    ++counts_->moves;
  }
  Capture& operator=(const Capture&) = delete;
  Capture& operator=(Capture&&) = delete;
  ~Capture() { --counts_->alive; }
  void operator()() { ++counts_->calls; }

 private:
  Counts* counts_;
};

TEST(HostTask, RunsWhatItHolds) {
  int result = 0;
  HostTask task([&result] { ++result; });
  task();
  task();
  EXPECT_EQ(result, 2);
}

TEST(HostTask, MovesAndDestroysItsCaptureOnce) {
  Counts counts;
  {
    HostTask first{Capture(counts)};
    EXPECT_EQ(counts.alive, 1);
    EXPECT_EQ(counts.copies, 0);
    const int moves = counts.moves;
    HostTask second = std::move(first);
    EXPECT_EQ(counts.moves, moves + 1);
    EXPECT_EQ(counts.alive, 1) << "the capture that was moved from is gone at once";
    second();
  }
  EXPECT_EQ(counts.alive, 0);
  EXPECT_EQ(counts.calls, 1);
}

TEST(HostTask, AssignmentReplacesTheCapture) {
  Counts old_counts;
  Counts counts;
  HostTask task{Capture(old_counts)};
  task = HostTask{Capture(counts)};
  EXPECT_EQ(old_counts.alive, 0);
  EXPECT_EQ(counts.alive, 1);
  HostTask& self = task;
  task = std::move(self);
  task();
  EXPECT_EQ(counts.calls, 1);
  task = HostTask();
  EXPECT_EQ(counts.alive, 0);
}

TEST(HostTask, HoldsWhatCannotBeCopied) {
  auto number = std::make_shared<int>(0);
  HostTask task([owned = std::make_unique<std::shared_ptr<int>>(number)] { ++**owned; });
  HostTask moved = std::move(task);
  moved();
  EXPECT_EQ(*number, 1);
  EXPECT_EQ(number.use_count(), 2);
  moved = HostTask();
  EXPECT_EQ(number.use_count(), 1);
}

TEST(HostTask, HoldsAsMuchAsItPromises) {
  std::array<unsigned char, HostTask::kCapacityBytes - sizeof(void*)> bytes{};
  bytes.back() = 42;
  int result = 0;
  HostTask task([&result, bytes] { result = bytes.back(); });
  HostTask moved = std::move(task);
  moved();
  EXPECT_EQ(result, 42);
}

}  // namespace
}  // namespace flex
