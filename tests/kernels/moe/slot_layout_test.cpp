#include "kernels/moe/slot_layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/kernels/moe/routing.h"

namespace flex::testing {
namespace {

// Two experts of 6 slots in 2 parts of 3; 2 chunks hold slots [0, 1) and [1, 3) of each part.
TEST(SlotLayout, MatchesHandWorkedExample) {
  const SlotLayout layout = {.num_experts = 2, .capacity = 6, .parts = 2, .chunks = 2};
  EXPECT_EQ(layout.part_slots(), 3);
  EXPECT_EQ(layout.chunk_slots(0), 1);
  EXPECT_EQ(layout.chunk_slots(1), 2);
  EXPECT_EQ(layout.chunk_row(1), 4);  // 2 experts, 2 parts, 1 slot before it
  const std::vector<std::int64_t> first = {0, 4, 5, 1, 6, 7};
  const std::vector<std::int64_t> second = {2, 8, 9, 3, 10, 11};
  for (std::int64_t location = 0; location < 6; ++location) {
    EXPECT_EQ(layout.row(0, location), first[location]);
    EXPECT_EQ(layout.row(1, location), second[location]);
  }
}

TEST(SlotLayout, OneChunkIsPlainExpertsTimesCapacity) {
  for (const std::int64_t parts : {1, 2, 4}) {
    const SlotLayout layout = {.num_experts = 3, .capacity = 8, .parts = parts, .chunks = 1};
    for (std::int64_t expert = 0; expert < 3; ++expert) {
      for (std::int64_t location = 0; location < 8; ++location) {
        EXPECT_EQ(layout.row(expert, location), expert * 8 + location);
      }
    }
  }
}

TEST(SlotLayout, RowIsTheBijectionThatTheOrderSays) {
  for (const std::int64_t experts : {1, 2, 5}) {
    for (const std::int64_t parts : {1, 2, 3}) {
      for (const std::int64_t slots : {0, 1, 2, 5, 8, 13}) {
        for (const std::int64_t chunks : {1, 2, 3, 4, 8}) {
          const SlotLayout layout = {
              .num_experts = experts, .capacity = parts * slots, .parts = parts, .chunks = chunks};
          const std::vector<std::int64_t> walked = walk_rows(layout);
          std::vector<std::int64_t> rows;
          for (std::int64_t expert = 0; expert < experts; ++expert) {
            for (std::int64_t location = 0; location < layout.capacity; ++location) {
              rows.push_back(layout.row(expert, location));
            }
          }
          ASSERT_EQ(rows, walked) << experts << " experts, " << parts << " parts of " << slots << " slots, "
                                  << chunks << " chunks";
          std::sort(rows.begin(), rows.end());
          for (std::int64_t row = 0; row < layout.num_rows(); ++row) ASSERT_EQ(rows[row], row);
        }
      }
    }
  }
}

TEST(SlotLayout, ChunksDifferByAtMostOneSlot) {
  const SlotLayout layout = {.num_experts = 1, .capacity = 13, .parts = 1, .chunks = 8};
  std::int64_t sum = 0;
  for (std::int64_t chunk = 0; chunk < 8; ++chunk) {
    EXPECT_GE(layout.chunk_slots(chunk), 1);
    EXPECT_LE(layout.chunk_slots(chunk), 2);
    sum += layout.chunk_slots(chunk);
  }
  EXPECT_EQ(sum, 13);
}

}  // namespace
}  // namespace flex::testing
