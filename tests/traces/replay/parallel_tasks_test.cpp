#include "traces/replay/parallel_tasks.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

namespace flex {
namespace {

TEST(RunTasks, RunsEachOnceAndNamesItsWorker) {
  for (const int workers : {1, 3, 8}) {
    std::vector<std::atomic<int>> runs(100);
    std::atomic<int> strange = 0;
    run_tasks(runs.size(), workers, [&](std::size_t index, int worker) {
      ++runs[index];
      if (worker < 0 || worker >= workers) ++strange;
    });
    for (const auto& count : runs) EXPECT_EQ(count, 1);
    EXPECT_EQ(strange, 0);
  }
}

TEST(RunTasks, ThrowsWhatTheFirstTaskThrew) {
  for (const int workers : {1, 4}) {
    try {
      run_tasks(50, workers, [](std::size_t index, int) {
        if (index >= 3) throw std::runtime_error(std::to_string(index));
      });
      FAIL();
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "3") << "every task before it was taken";
    }
  }
}

TEST(RunTasks, NothingToDoIsDone) {
  run_tasks(0, 4, [](std::size_t, int) { FAIL(); });
}

}  // namespace
}  // namespace flex
