#include "runtime/fail_together.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "base/require.h"
#include "runtime/launch.h"
#include "runtime/moe_parameters.h"

namespace flex {
namespace {

using ::testing::ElementsAre;
using namespace std::chrono_literals;

// What each of three ranks throws when rank 1, or ranks 1 and 2, throw E.
template <class E>
std::vector<std::string> texts_of(bool second_too) {
  std::vector<std::string> texts(3);
  run_ranks({3, 1}, 10s, [&](Communicator& world) {
    const int rank = world.rank();
    try {
      do_together_blocking(world, [&] {
        if (rank == 1 || (second_too && rank == 2)) fail<E>("rank {} has no luck", rank);
      });
    } catch (const E& error) {
      texts[static_cast<std::size_t>(rank)] = error.what();
    }
    do_together_blocking(world, [] {});  // the world lives on
  });
  return texts;
}

TEST(FailTogether, AllThrowWhatOneThrew) {
  const auto expected =
      ElementsAre("rank 1: rank 1 has no luck", "rank 1 has no luck", "rank 1: rank 1 has no luck");
  EXPECT_THAT(texts_of<InputError>(false), expected);
  EXPECT_THAT(texts_of<FileError>(false), expected);
  EXPECT_THAT(texts_of<Error>(false), expected);
  EXPECT_THAT(texts_of<FileError>(true),
              ElementsAre("rank 1: rank 1 has no luck", "rank 1 has no luck", "rank 2 has no luck"));
}

TEST(FailTogether, PatienceOutlastsTheDeadline) {
  std::vector<std::string> texts(2);
  run_ranks({2, 1}, 100ms, [&](Communicator& world) {
    do_patiently_together_blocking(world, [&] {
      if (world.rank() == 0) std::this_thread::sleep_for(400ms);
    });
    try {
      do_patiently_together_blocking(world, [&] {
        if (world.rank() == 0) fail<FileError>("full");
      });
    } catch (const FileError& error) {
      texts[static_cast<std::size_t>(world.rank())] = error.what();
    }
  });
  EXPECT_THAT(texts, ElementsAre("full", "rank 0: full"));
}

// Every rank's shard, from the one that another rank holds, is the one that it holds itself.
TEST(ShardOfRank, IsWhatThatRankHolds) {
  for (const int world : {1, 2, 4, 8}) {
    for (const std::int64_t experts : {1, 2, 4, 8}) {
      const MoeConfig config = {.model_dim = 6, .hidden_dim = 16, .num_experts = experts};
      const MoeParameters first(config, world, 0, Device::cpu());
      for (int rank = 0; rank < world; ++rank) {
        const MoeParameters held(config, world, rank, Device::cpu());
        for (std::size_t i = 0; i < held.all().size(); ++i) {
          const Shard expected = held.all()[i].shard;
          const Shard shard = shard_of_rank(first.all()[i], world, rank);
          EXPECT_EQ(shard.expert_begin, expected.expert_begin) << held.all()[i].name;
          EXPECT_EQ(shard.row_begin, expected.row_begin) << held.all()[i].name;
          EXPECT_EQ(shard.rows, expected.rows) << held.all()[i].name;
        }
      }
    }
  }
}

}  // namespace
}  // namespace flex
