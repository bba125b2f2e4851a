#include "profiler/cupti_buffers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include "profiler/cupti_abi.h"

namespace flex {
namespace {

using namespace std::chrono_literals;

TEST(CuptiBuffers, AreAlignedAndGoRound) {
  CuptiBuffers buffers(1000);
  std::uint8_t* const first = buffers.request();
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first) % cupti::kRecordAlignment, 0U);
  std::memset(first, 1, buffers.size());
  EXPECT_EQ(buffers.num_outstanding(), 1U);
  buffers.complete(first, 2000);  // more than it holds
  EXPECT_EQ(buffers.num_outstanding(), 0U);
  const auto filled = buffers.take_filled();
  ASSERT_EQ(filled.size(), 1U);
  EXPECT_EQ(filled[0].data, first);
  EXPECT_EQ(filled[0].valid_bytes, 1000U);
  EXPECT_TRUE(buffers.take_filled().empty());
  EXPECT_NE(buffers.request(), first) << "it is being read";
  buffers.recycle(first);
  EXPECT_EQ(buffers.num_idle(), 1U);
  EXPECT_EQ(buffers.request(), first);
}

TEST(CuptiBuffers, ThatWereNotHandedOutAreLeftAlone) {
  CuptiBuffers buffers(64);
  std::uint8_t other = 0;
  buffers.complete(&other, 1);
  std::uint8_t* const own = buffers.request();
  buffers.complete(own, 1);
  buffers.complete(own, 1);  // twice
  buffers.recycle(&other);
  EXPECT_EQ(buffers.num_refused(), 2);
  EXPECT_EQ(buffers.take_filled().size(), 1U);
}

TEST(CuptiBuffers, KeepFewIdleOnes) {
  CuptiBuffers buffers(64);
  for (std::size_t i = 0; i < 3 * CuptiBuffers::kMaxIdle; ++i) buffers.complete(buffers.request(), 0);
  std::vector<std::uint8_t*> all;
  for (std::size_t i = 0; i < 3 * CuptiBuffers::kMaxIdle; ++i) all.push_back(buffers.request());
  for (std::uint8_t* buffer : all) buffers.complete(buffer, 0);
  for (const auto& filled : buffers.take_filled()) buffers.recycle(filled.data);
  EXPECT_EQ(buffers.num_idle(), CuptiBuffers::kMaxIdle);
}

// The sanitizers end the program at such a request.
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
TEST(CuptiBuffers, WithoutMemoryThereIsNone) {
  CuptiBuffers buffers(std::numeric_limits<std::size_t>::max() / 2);
  EXPECT_EQ(buffers.request(), nullptr);
  EXPECT_EQ(buffers.num_outstanding(), 0U);
}
#endif

TEST(CuptiBuffers, CanBeWaitedFor) {
  CuptiBuffers buffers(64);
  EXPECT_TRUE(buffers.wait_returned_blocking(0ms));
  EXPECT_FALSE(buffers.wait_filled_blocking(1ms));
  std::uint8_t* const buffer = buffers.request();
  EXPECT_FALSE(buffers.wait_returned_blocking(1ms));
  std::thread later([&] {
    std::this_thread::sleep_for(5ms);
    buffers.complete(buffer, 8);
  });
  EXPECT_TRUE(buffers.wait_returned_blocking(60s));
  EXPECT_TRUE(buffers.wait_filled_blocking(0ms));
  later.join();
}

// CUPTI's threads take and give, a reader recycles: no buffer is lost or given to two at once.
TEST(CuptiBuffers, AreSharedByThreads) {
  constexpr int kThreads = 3;
  constexpr int kRounds = 300;
  CuptiBuffers buffers(64);
  std::atomic<int> num_running = kThreads;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      const auto mark = static_cast<std::uint8_t>(thread + 1);
      for (int round = 0; round < kRounds; ++round) {
        std::uint8_t* const buffer = buffers.request();
        std::memset(buffer, mark, buffers.size());
        std::this_thread::yield();
        EXPECT_EQ(std::count(buffer, buffer + buffers.size(), mark), 64);
        buffers.complete(buffer, buffers.size());
      }
      --num_running;
    });
  }
  std::size_t num_read = 0;
  while (true) {
    const bool is_last = num_running == 0;
    for (const auto& filled : buffers.take_filled()) {
      EXPECT_EQ(std::count(filled.data, filled.data + 64, filled.data[0]), 64);
      buffers.recycle(filled.data);
      ++num_read;
    }
    if (is_last) break;
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(num_read, static_cast<std::size_t>(kThreads * kRounds));
  EXPECT_EQ(buffers.num_outstanding(), 0U);
}

}  // namespace
}  // namespace flex
