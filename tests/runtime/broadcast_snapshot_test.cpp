#include "runtime/broadcast_snapshot.h"

#include <gtest/gtest.h>

#include <chrono>

#include "runtime/launch.h"

namespace flex {
namespace {

using namespace std::chrono_literals;

CacheSnapshot snapshot_of(std::int32_t num_entries) {
  std::vector<CacheSnapshot::Entry> entries;
  for (std::int32_t i = 0; i < num_entries; ++i) {
    entries.push_back({.layer = 7,
                       .one = {.capacity_bucket = i},
                       .plan = {.pipeline_degree = 1 + i % 8},
                       .is_complete = i % 2 == 0,
                       .median_ns = 100 + i,
                       .default_median_ns = 200 + i});
  }
  return {static_cast<std::uint64_t>(num_entries) + 5, std::move(entries)};
}

TEST(BroadcastSnapshot, GivesEveryRankThatOfRankZero) {
  run_ranks({3, 3}, 60s, [](Communicator& world) {
    RankContext context(world, Device::cpu());
    for (const std::int32_t num_entries : {1000, 0, 1}) {
      const CacheSnapshot of_rank_zero = snapshot_of(num_entries);
      const CacheSnapshot own = world.rank() == 0 ? of_rank_zero : snapshot_of(world.rank() + 1);
      EXPECT_EQ(broadcast_snapshot_blocking(context, own), of_rank_zero);
    }
  });
}

TEST(BroadcastSnapshot, OfOneRankIsItsOwn) {
  run_ranks({1, 1}, 60s, [](Communicator& world) {
    RankContext context(world, Device::cpu());
    EXPECT_EQ(broadcast_snapshot_blocking(context, snapshot_of(3)), snapshot_of(3));
  });
}

}  // namespace
}  // namespace flex
