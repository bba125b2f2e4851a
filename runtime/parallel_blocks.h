#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace flex {

/// Calls work(begin, end) for blocks of [0, count) from all cores, and returns when all are done. For
/// preparing data on the host; `work` must not throw.
template <class F>
void for_each_block(std::int64_t count, std::int64_t block, const F& work) {
  const std::int64_t num_blocks = (count + block - 1) / block;
  std::atomic<std::int64_t> next{0};
  const auto run = [&] {
    for (std::int64_t i = next++; i < num_blocks; i = next++)
      work(i * block, std::min(count, (i + 1) * block));
  };
  std::vector<std::thread> threads;
  const std::int64_t others = std::min<std::int64_t>(std::thread::hardware_concurrency(), num_blocks) - 1;
  for (std::int64_t i = 0; i < others; ++i) threads.emplace_back(run);
  run();
  for (std::thread& thread : threads) thread.join();
}

}  // namespace flex
