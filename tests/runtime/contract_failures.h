#pragma once

#include <gmock/gmock.h>

#include "tests/runtime/communicator_contract.h"

/// Failures end every rank's collectives, soon, with a reason that names who and what.
namespace flex::testing {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Eq;
using ::testing::HasSubstr;

inline constexpr Milliseconds kShort{500};
/// The contract of a failure: known on all ranks one second after the deadline.
inline constexpr Milliseconds kSlack{1000};

/// Milliseconds that `call` takes.
template <class Call>
[[nodiscard]] std::int64_t duration_ms(Call&& call) {
  const auto begin = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration_cast<Milliseconds>(std::chrono::steady_clock::now() - begin).count();
}

TYPED_TEST_P(CommunicatorContract, DifferentCallsAreNamedOnEveryRank) {
  TypeParam::run({3, 3}, kPatient, [](Communicator& world) {
    const std::string failure = failure_of([&] {
      Stream stream(Device::cpu());
      double data[3] = {};
      double gathered[9] = {};
      if (world.rank() == 1) {
        world.all_gather(data, gathered, 24, Traffic::kWeights, stream);
      } else {
        world.all_reduce(data, 3, DType::kF64, ReduceOp::kMax, Traffic::kGate, stream);
      }
      stream.synchronize_blocking();
      meet(world);  // an implementation may tell a rank that was done only now
    });
    EXPECT_THAT(failure, AllOf(HasSubstr("the ranks of group {0,1,2} do not call the same: "),
                               HasSubstr("rank 1 called all_gather (weights), 24 bytes per rank"),
                               HasSubstr("called all_reduce (gate), max of 3 fp64")));
  });
}

TYPED_TEST_P(CommunicatorContract, DifferentSizesAreNamedOnEveryRank) {
  TypeParam::run({3, 3}, kPatient, [](Communicator& world) {
    const std::string failure = failure_of([&] {
      Stream stream(Device::cpu());
      std::vector<char> send(300);
      std::vector<char> recv(300);
      world.all_to_all({.send = send.data(),
                        .recv = recv.data(),
                        .bytes_per_peer = world.rank() == 2 ? 100 : 64,
                        .traffic = Traffic::kDispatch},
                       stream);
      stream.synchronize_blocking();
      meet(world);
    });
    EXPECT_THAT(failure, AllOf(HasSubstr("called all_to_all (dispatch), 64 bytes per peer"),
                               HasSubstr("rank 2 called all_to_all (dispatch), 100 bytes per peer")));
  });
}

TYPED_TEST_P(CommunicatorContract, PairsOfARaggedExchangeMustAgree) {
  TypeParam::run({3, 3}, kPatient, [](Communicator& world) {
    const std::string failure = failure_of([&] {
      Stream stream(Device::cpu());
      std::vector<char> send(300);
      std::vector<char> recv(300);
      const std::vector<std::int64_t> offsets = {0, 100, 200};
      const std::vector<std::int64_t> sizes = {8, 8, 8};
      const std::vector<std::int64_t> other = {8, 8, 40};
      world.ragged_all_to_all({.send = send.data(),
                               .send_bytes = world.rank() == 0 ? other : sizes,
                               .send_offset_bytes = offsets,
                               .recv = recv.data(),
                               .recv_bytes = sizes,
                               .recv_offset_bytes = offsets,
                               .traffic = Traffic::kCombine},
                              stream);
      stream.synchronize_blocking();
      meet(world);
    });
    EXPECT_EQ(
        failure,
        "ragged_all_to_all (combine) in group {0,1,2}: rank 0 sends 40 bytes to rank 2, which expects 8");
  });
}

TYPED_TEST_P(CommunicatorContract, DeadlineNamesTheSleepingRank) {
  TypeParam::run({4, 2}, kShort, [](Communicator& world) {
    if (world.rank() == 2) std::this_thread::sleep_for(kShort + kSlack + kSlack);
    std::string failure;
    const std::int64_t waited = duration_ms([&] { failure = failure_of([&] { meet(world); }); });
    EXPECT_EQ(failure, "all_reduce (gate) in group {0,1,2,3}: rank 2 did not arrive within 500 ms");
    EXPECT_LT(waited, (kShort + kSlack).count());
    EXPECT_EQ(failure_of([&] { meet(world); }), failure) << "after a failure there are only failures";
    EXPECT_EQ(failure_of([&] { static_cast<void>(world.split(0, 0)); }), failure);
  });
}

TYPED_TEST_P(CommunicatorContract, DeadlineNamesTheSleepingRankAcrossGroups) {
  // 0 waits in its node for 1, who waits in its rail for 3, who waits in the world for 2, who sleeps. Rank 0
  // began first and gives up first; rank 1, for which it waits, is not to blame.
  TypeParam::run({4, 2}, kShort, [](Communicator& world) {
    const auto node = world.split(world.rank() / 2, 0);
    const auto rail = world.split(world.rank() % 2, 0);
    std::string failure;
    const std::int64_t waited = duration_ms([&] {
      switch (world.rank()) {
        case 0:
          failure = failure_of([&] { meet(*node); });
          break;
        case 1:
          std::this_thread::sleep_for(Milliseconds(30));
          failure = failure_of([&] { meet(*rail); });
          break;
        case 3:
          std::this_thread::sleep_for(Milliseconds(60));
          failure = failure_of([&] { meet(world); });
          break;
        default:
          std::this_thread::sleep_for(kShort + kSlack);
          failure = failure_of([&] { meet(world); });
      }
    });
    EXPECT_THAT(failure, HasSubstr("all_reduce (gate) in group {0,1,2,3}: "));
    // On MPI others may be first to give up, and then blame less sharply than rank 0 does; never rank 1 or 3
    // alone.
    EXPECT_THAT(failure, HasSubstr("2 did not arrive"));
    if (world.rank() != 2) {
      EXPECT_LT(waited, (kShort + kSlack).count());
    }
  });
}

TYPED_TEST_P(CommunicatorContract, RanksThatWaitForEachOtherAreNamed) {
  TypeParam::run({2, 2}, kShort, [](Communicator& world) {
    const auto a = world.split(0, 0);
    const auto b = world.split(0, 0);
    const std::string failure = failure_of([&] {
      // Each blocks in the call that the other makes second.
      meet(world.rank() == 0 ? *a : *b);
      meet(world.rank() == 0 ? *b : *a);
    });
    EXPECT_THAT(failure, AllOf(HasSubstr("after 500 ms ranks wait for each other: "),
                               HasSubstr("rank 0 waits for rank 1 in all_reduce (gate) in group {0,1}"),
                               HasSubstr("rank 1 waits for rank 0 in all_reduce (gate) in group {0,1}")));
  });
}

TYPED_TEST_P(CommunicatorContract, AbortFromAForeignThreadEndsEveryWait) {
  TypeParam::run({4, 2}, kPatient, [](Communicator& world) {
    const auto pair = world.split(world.rank() / 2, 0);
    std::thread foreign;
    if (world.rank() == 3) {
      foreign = std::thread([&world] {
        std::this_thread::sleep_for(Milliseconds(50));
        world.abort("the watchdog found rank 3 stuck");
        world.abort("a second reason changes nothing");
      });
      foreign.join();
    }
    // Ranks 0 and 1 wait for the world, rank 2 for its pair.
    Communicator& group = world.rank() == 2 ? *pair : world;
    std::string failure;
    const std::int64_t waited = duration_ms([&] { failure = failure_of([&] { meet(group); }); });
    EXPECT_EQ(failure, "the watchdog found rank 3 stuck");
    EXPECT_LT(waited, 5000);
  });
}

TYPED_TEST_P(CommunicatorContract, CollectiveOfAFailedStreamEndsThePeersWaits) {
  TypeParam::run({3, 1}, kPatient, [](Communicator& world) {
    Stream stream(Device::cpu());
    if (world.rank() == 1) stream.enqueue([] { throw InputError("a kernel refused"); });
    double value = 1.0;
    std::string failure;
    const std::int64_t waited = duration_ms([&] {
      failure = failure_of([&] {
        try {
          world.all_reduce(&value, 1, DType::kF64, ReduceOp::kSum, Traffic::kGate, stream);
          stream.synchronize_blocking();
        } catch (const InputError& error) {
          EXPECT_STREQ(error.what(), "a kernel refused");
          meet(world);
        }
      });
    });
    EXPECT_EQ(failure,
              "rank 1 skipped all_reduce (gate) in group {0,1,2}: earlier work on its stream failed");
    EXPECT_LT(waited, 5000);
  });
}

}  // namespace flex::testing
