#include "profiler/work_id.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "base/error.h"
#include "tests/base/expect_error.h"

namespace flex {
namespace {

WorkId random_id(std::mt19937_64& random) {
  const auto below = [&](std::int64_t least, std::int64_t most) {
    // The ends of each field come often: there the fields meet.
    switch (random() % 4) {
      case 0:
        return least;
      case 1:
        return most;
      default:
        return std::uniform_int_distribution<std::int64_t>(least, most)(random);
    }
  };
  const auto field = [&](std::int64_t least, std::int32_t most) {
    return static_cast<std::int32_t>(below(least, most));
  };
  return {.iteration = below(0, kMaxWorkId.iteration),
          .local_rank = field(0, kMaxWorkId.local_rank),
          .layer = field(-1, kMaxWorkId.layer),
          .pass = field(-1, kMaxWorkId.pass),
          .operation = field(-1, kMaxWorkId.operation),
          .chunk = field(-1, kMaxWorkId.chunk)};
}

// 5 << 37 | (1 + 1) << 31 | (3 + 1) << 23 | (2 + 1) << 17 | (70 + 1) << 7 | (0 + 1) << 1
TEST(WorkIds, LieAsTheHeaderSays) {
  const WorkId id{.iteration = 5, .local_rank = 1, .layer = 3, .pass = 2, .operation = 70, .chunk = 0};
  EXPECT_EQ(pack(id), (5ULL << 37) | (2ULL << 31) | (4ULL << 23) | (3ULL << 17) | (71ULL << 7) | (1ULL << 1));
  EXPECT_EQ(pack(WorkId{}), 1ULL << 31) << "what does not apply is 0, and nothing packs to 0";
}

TEST(WorkIds, ComeBackAsTheyWere) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 10'000; ++i) {
    const WorkId id = random_id(random);
    ASSERT_EQ(unpack_work_id(pack(id)), id);
    ASSERT_NE(pack(id), 0U);
    ASSERT_NE(pack(id), kReservedWorkId);
  }
  EXPECT_EQ(unpack_work_id(pack(kMaxWorkId)), kMaxWorkId);
}

TEST(WorkIds, OfOneRankSortAsTheWorkRuns) {
  std::mt19937_64 random(2);
  const auto in_order = [](const WorkId& id) {
    return std::tuple(id.iteration, id.local_rank, id.layer, id.pass, id.operation, id.chunk);
  };
  for (int i = 0; i < 10'000; ++i) {
    const WorkId a = random_id(random);
    const WorkId b = random_id(random);
    ASSERT_EQ(pack(a) < pack(b), in_order(a) < in_order(b));
  }
}

TEST(WorkIds, OthersAreRecognized) {
  EXPECT_EQ(unpack_work_id(0), std::nullopt);
  EXPECT_EQ(unpack_work_id(1), std::nullopt);
  EXPECT_EQ(unpack_work_id(kReservedWorkId), std::nullopt);
  EXPECT_EQ(unpack_work_id(pack(WorkId{}) | 1), std::nullopt);
}

TEST(WorkIds, ThatDoNotFitAreRefused) {
  EXPECT_EQ(message_of<InputError>([] { static_cast<void>(pack({.iteration = -1})); }),
            "a profiled iteration is -1; it is 0 to 134217727");
  EXPECT_EQ(message_of<InputError>([] { static_cast<void>(pack({.local_rank = 63})); }),
            "a profiled local rank is 63; it is 0 to 62");
  EXPECT_EQ(message_of<InputError>([] { static_cast<void>(pack({.layer = 255})); }),
            "a profiled layer is 255; it is -1 to 254");
  EXPECT_EQ(message_of<InputError>([] { static_cast<void>(pack({.pass = 63})); }),
            "a profiled pass is 63; it is -1 to 62");
  EXPECT_EQ(message_of<InputError>([] { static_cast<void>(pack({.operation = 1023})); }),
            "a profiled operation is 1023; it is -1 to 1022");
  EXPECT_EQ(message_of<InputError>([] { static_cast<void>(pack({.chunk = -2})); }),
            "a profiled chunk is -2; it is -1 to 62");
}

}  // namespace
}  // namespace flex
