#include "kernels/arena.h"

#include <gtest/gtest.h>

#include <cstring>
#include <utility>
#include <vector>

#include "tests/support/compare.h"
#include "tests/support/count_allocations.h"

namespace flex::testing {
namespace {

constexpr std::int64_t kMiB = std::int64_t{1} << 20;

// Three quarters of a mebibyte each, so that an arena that grows by mebibytes needs several blocks.
std::vector<void*> take_round(Arena& arena, int num_tensors) {
  std::vector<void*> addresses;
  for (int i = 0; i < num_tensors; ++i) {
    const TensorView view = arena.take(DType::kU8, {3 * kMiB / 4});
    std::memset(view.data, i, static_cast<std::size_t>(view.bytes()));
    addresses.push_back(view.data);
  }
  return addresses;
}

TEST(Arena, AlignsEveryTensor) {
  Arena arena(Device::cpu());
  for (const std::int64_t size : {1, 255, 256, 257, 3}) {
    const TensorView view = arena.take(DType::kU8, {size});
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view.data) % kAlignmentBytes, 0U) << size;
    EXPECT_EQ(view.shape, Shape{size});
    EXPECT_TRUE(view.device.is_cpu());
  }
  EXPECT_EQ(arena.used_bytes(), 256 * 6);
}

TEST(Arena, TensorsDoNotOverlap) {
  Arena arena(Device::cpu());
  std::vector<TensorView> views;
  for (std::uint8_t i = 0; i < 100; ++i) {
    views.push_back(arena.take(DType::kU8, {std::int64_t{700} * i}));
    std::memset(views.back().data, i, static_cast<std::size_t>(views.back().bytes()));
  }
  for (std::uint8_t i = 0; i < 100; ++i) {
    const TensorView& view = views[i];
    for (std::int64_t byte = 0; byte < view.bytes(); ++byte) ASSERT_EQ(view.as<std::uint8_t>()[byte], i);
  }
}

TEST(Arena, SecondRoundAllocatesNothingAndKeepsItsAddresses) {
  Arena arena(Device::cpu());
  static_cast<void>(take_round(arena, 5));
  EXPECT_GT(arena.num_allocations(), 1);
  EXPECT_TRUE(arena.merges_on_reset());
  arena.reset();
  EXPECT_FALSE(arena.merges_on_reset());
  EXPECT_EQ(arena.capacity_bytes(), arena.peak_bytes());
  const std::int64_t device_allocations = arena.num_allocations();
  const std::vector<void*> second = take_round(arena, 5);
  for (int round = 0; round < 3; ++round) {
    arena.reset();
    EXPECT_EQ(take_round(arena, 5), second);
  }
  EXPECT_EQ(arena.num_allocations(), device_allocations);

  const std::int64_t before = num_allocations();
  arena.reset();
  for (int i = 0; i < 5; ++i) static_cast<void>(arena.take(DType::kU8, {3 * kMiB / 4}));
  EXPECT_EQ(num_allocations() - before, 0);
}

TEST(Arena, AGrowingRoundKeepsWhatWasTaken) {
  Arena arena(Device::cpu());
  const std::vector<void*> addresses = take_round(arena, 6);
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    const auto* bytes = static_cast<const std::uint8_t*>(addresses[i]);
    EXPECT_EQ(bytes[0], i);
    EXPECT_EQ(bytes[3 * kMiB / 4 - 1], i);
  }
}

TEST(Arena, GrowsAgainForALargerRound) {
  Arena arena(Device::cpu());
  static_cast<void>(take_round(arena, 1));
  arena.reset();
  EXPECT_EQ(arena.num_allocations(), 1);
  static_cast<void>(take_round(arena, 8));
  arena.reset();
  const std::int64_t allocations = arena.num_allocations();
  static_cast<void>(take_round(arena, 8));
  EXPECT_EQ(arena.num_allocations(), allocations);
}

TEST(Arena, RewindGivesBackToTheMark) {
  Arena arena(Device::cpu());
  arena.reserve(kMiB);
  static_cast<void>(arena.take(DType::kF64, {100}));
  const std::int64_t mark = arena.mark();
  const TensorView first = arena.take(DType::kF64, {200});
  arena.rewind(mark);
  EXPECT_EQ(arena.used_bytes(), 1024);
  const TensorView second = arena.take(DType::kF64, {50});
  EXPECT_EQ(first.data, second.data);
  EXPECT_EQ(arena.peak_bytes(), 1024 + 1792);
}

// While the arena grows, a mark has no place in the blocks: nothing is given back, and nothing overlaps.
TEST(Arena, RewindWaitsUntilTheArenaHasOneBlock) {
  Arena arena(Device::cpu());
  const TensorView kept = arena.take(DType::kU8, {kMiB / 2});
  const std::int64_t mark = arena.mark();
  static_cast<void>(take_round(arena, 2));
  ASSERT_TRUE(arena.merges_on_reset());
  const std::int64_t used = arena.used_bytes();
  arena.rewind(mark);
  EXPECT_EQ(arena.used_bytes(), used);
  EXPECT_NE(arena.take(DType::kU8, {1}).data, kept.data);
}

TEST(Arena, ReserveMakesTheFirstRoundFit) {
  Arena arena(Device::cpu());
  arena.reserve(5 * kMiB);
  EXPECT_EQ(arena.num_allocations(), 1);
  EXPECT_EQ(arena.capacity_bytes(), 5 * kMiB);
  static_cast<void>(take_round(arena, 5));
  EXPECT_EQ(arena.num_allocations(), 1);
  EXPECT_EQ(error_text([&] { arena.reserve(1); }), "arena: reserve() while 3932160 bytes are taken");
  arena.reset();
  arena.reserve(4 * kMiB);  // fits already
  EXPECT_EQ(arena.num_allocations(), 1);
  arena.reserve(6 * kMiB);
  EXPECT_EQ(arena.num_allocations(), 2);
  EXPECT_EQ(arena.capacity_bytes(), 6 * kMiB);
}

TEST(Arena, PeakOutlivesReset) {
  Arena arena(Device::cpu());
  static_cast<void>(arena.take(DType::kU8, {1000}));
  arena.reset();
  EXPECT_EQ(arena.used_bytes(), 0);
  EXPECT_EQ(arena.peak_bytes(), 1024);
  static_cast<void>(arena.take(DType::kU8, {10}));
  EXPECT_EQ(arena.peak_bytes(), 1024);
}

TEST(Arena, TakesTensorsOfNoElements) {
  Arena arena(Device::cpu());
  const TensorView empty = arena.take(DType::kF32, {0, 8});
  EXPECT_TRUE(empty.present());
  EXPECT_EQ(arena.used_bytes(), 0);
  const TensorView next = arena.take(DType::kF32, {8});
  EXPECT_EQ(*static_cast<float*>(std::memset(next.data, 0, 32)), 0.0F);
  EXPECT_EQ(arena.num_allocations(), 1);
  arena.reset();
  arena.reserve(0);
  static_cast<void>(arena.take(DType::kF32, {0}));
}

TEST(Arena, RefusesSizesThatCannotBe) {
  Arena arena(Device::cpu());
  EXPECT_EQ(error_text([&] { static_cast<void>(arena.take(DType::kF32, {-1})); }),
            "a tensor of shape (-1) has a negative extent");
  EXPECT_EQ(error_text([&] {
              static_cast<void>(arena.take(DType::kF32, {-2, -2}));
            }),
            "a tensor of shape (-2, -2) has a negative extent");
  EXPECT_EQ(error_text([&] { static_cast<void>(arena.take(DType::kF64, {std::int64_t{1} << 61})); }),
            "a tensor of fp64 of shape (2305843009213693952) has more than 2^62 bytes");
  EXPECT_EQ(arena.used_bytes(), 0);
}

TEST(Arena, MoveTakesTheMemory) {
  Arena first(Device::cpu());
  const TensorView view = first.take(DType::kU8, {64});
  std::memset(view.data, 7, 64);
  Arena second = std::move(first);
  EXPECT_EQ(second.used_bytes(), 256);
  EXPECT_EQ(view.as<std::uint8_t>()[63], 7);
  EXPECT_EQ(first.used_bytes(), 0);  // NOLINT(bugprone-use-after-move): the state after a move is tested
  EXPECT_EQ(first.capacity_bytes(), 0);

  Arena third(Device::cpu());
  static_cast<void>(third.take(DType::kU8, {64}));
  third = std::move(second);
  EXPECT_EQ(view.as<std::uint8_t>()[0], 7);
  EXPECT_EQ(third.take(DType::kU8, {1}).data, view.as<std::uint8_t>() + 256);
}

}  // namespace
}  // namespace flex::testing
