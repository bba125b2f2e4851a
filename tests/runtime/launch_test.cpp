#include "runtime/launch.h"

#include <gmock/gmock.h>

#include <atomic>
#include <stdexcept>

#include "tests/runtime/communicator_contract.h"

namespace flex::testing {
namespace {

TEST(RunRanks, RunsEveryRankOnce) {
  std::atomic<int> sum = 0;
  run_ranks({5, 2}, kPatient, [&](Communicator& world) { sum += world.rank() + 1; });
  EXPECT_EQ(sum, 15);
}

TEST(RunRanks, ARankThatThrowsEndsTheOthersAndIsTheCause) {
  std::atomic<int> ended = 0;
  const auto run = [&] {
    run_ranks({4, 2}, kPatient, [&](Communicator& world) {
      if (world.rank() == 1) throw std::runtime_error("no such expert");
      const std::string failure = failure_of([&] { meet(world); });
      EXPECT_EQ(failure, "rank 1 failed: no such expert");
      ++ended;
      throw CommError(failure);
    });
  };
  EXPECT_THROW(
      {
        try {
          run();
        } catch (const std::runtime_error& error) {
          EXPECT_STREQ(error.what(), "no such expert");
          throw;
        }
      },
      std::runtime_error);
  EXPECT_EQ(ended, 3);
}

TEST(RunRanks, TheFirstCommErrorIsTheCauseWhereThereIsNoOther) {
  const std::string failure = failure_of([] {
    run_ranks({3, 1}, kPatient, [](Communicator& world) {
      if (world.rank() == 2) throw CommError("the link is down");
      meet(world);
    });
  });
  EXPECT_EQ(failure, "the link is down");
}

TEST(RunRanks, AnOriginalErrorBeatsEarlierEchoes) {
  EXPECT_THROW(run_ranks({2, 1}, kPatient,
                         [](Communicator& world) {
                           if (world.rank() == 0) throw CommError("an echo");
                           // Waits for the echo to be first.
                           static_cast<void>(failure_of([&] { meet(world); }));
                           throw InputError("the original");
                         }),
               InputError);
}

TEST(RunRanks, AnExceptionOfAnotherKindIsPassedOn) {
  EXPECT_THROW(run_ranks({2, 1}, kPatient,
                         [](Communicator& world) {
                           if (world.rank() == 0) throw 42;
                           EXPECT_EQ(failure_of([&] { meet(world); }),
                                     "rank 0 failed: an exception that is not a std::exception");
                         }),
               int);
}

TEST(RunRanks, ARankThatLeavesEarlyIsNamed) {
  const std::string failure = failure_of([] {
    run_ranks({3, 1}, Milliseconds(500), [](Communicator& world) {
      if (world.rank() != 1) meet(world);
    });
  });
  EXPECT_EQ(failure, "all_reduce (gate) in group {0,1,2}: rank 1 did not arrive within 500 ms");
}

}  // namespace
}  // namespace flex::testing
