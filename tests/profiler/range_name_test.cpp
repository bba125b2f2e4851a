#include "profiler/range_name.h"

#include <gtest/gtest.h>

#include <string>
#include <type_traits>

#include "profiler/nvtx_range.h"
#include "tests/support/count_allocations.h"

namespace flex {
namespace {

TEST(RangeNames, SayWhatRuns) {
  EXPECT_EQ(RangeName({.layer = 3, .operation = "dispatch", .chunk = 0, .num_chunks = 4, .all_to_all = "2dh"})
                .view(),
            "moe/L03/dispatch#1of4[2dh]");
  EXPECT_EQ(RangeName({.layer = 12,
                       .direction = "combine",
                       .operation = "rail_all_to_all",
                       .chunk = 7,
                       .num_chunks = 8,
                       .all_to_all = "2dh"})
                .view(),
            "moe/L12/combine/rail_all_to_all#8of8[2dh]");
  EXPECT_EQ(RangeName({.layer = 0, .operation = "gate"}).view(), "moe/L00/gate");
  EXPECT_EQ(RangeName({.operation = "reduce_shared_gradients"}).view(), "moe/reduce_shared_gradients");
  EXPECT_EQ(RangeName({.layer = 128}).view(), "moe/L128");
}

TEST(RangeNames, AreCutWhereTheRoomEnds) {
  const std::string long_name(200, 'x');
  const RangeName name(
      {.layer = 1, .operation = long_name, .chunk = 1, .num_chunks = 2, .all_to_all = "linear"});
  EXPECT_EQ(name.view(), ("moe/L01/" + long_name).substr(0, RangeName::kMaxLength));
  EXPECT_STREQ(name.c_str(), std::string(name.view()).c_str());
}

TEST(RangeNames, AllocateNothing) {
  const RangeNameParts parts{.layer = 3,
                             .direction = "dispatch",
                             .operation = "all_to_all",
                             .num_chunks = 4,
                             .all_to_all = "linear"};
  const std::int64_t allocations = testing::num_allocations();
  for (int i = 0; i < 100; ++i) {
    const RangeName name(parts);
    const NvtxRange range(name);
    ASSERT_FALSE(name.view().empty());
  }
  EXPECT_EQ(testing::num_allocations(), allocations);
}

#ifndef FLEX_HAS_CUDA
static_assert(std::is_empty_v<NvtxRange> && std::is_trivially_destructible_v<NvtxRange>);
#endif

}  // namespace
}  // namespace flex
