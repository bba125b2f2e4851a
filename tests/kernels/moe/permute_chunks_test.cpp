#include "kernels/moe/permute_chunks.h"

#include <fmt/format.h>

#include <array>
#include <numeric>
#include <utility>

#include "tests/support/kernel_test.h"

namespace flex::testing {
namespace {

class PermuteRows : public KernelTest {};
class StridedChunkCopy : public KernelTest {};
class SumCopies : public KernelTest {};

std::vector<double> counting(std::int64_t count) {
  std::vector<double> values(count);
  std::iota(values.begin(), values.end(), 0.0);
  return values;
}

// Two ranks, two experts, two slots, one channel: rank 0 sends 0 1 (expert 0) 2 3 (expert 1), rank 1 sends 4
// 5 and 6 7.
TEST_P(PermuteRows, MatchesHandWorkedExample) {
  const Tensor from = real({8, 1}, counting(8));
  Tensor to = real_output({2, 4, 1});
  rows_to_experts({.from = from, .to = to, .world = 2, .local_experts = 2, .slots = 2, .slot_capacity = 2},
                  stream());
  wait();
  EXPECT_EQ(values_of(to), (std::vector<double>{0, 4, 1, 5, 2, 6, 3, 7}));

  Tensor back = real_output({8, 1});
  rows_from_experts({.from = to, .to = back, .world = 2, .local_experts = 2, .slots = 2, .slot_capacity = 2},
                    stream());
  wait();
  EXPECT_EQ(values_of(back), counting(8));
}

// Chunks of 0, 1 and 3 slots of 4: each writes its own rows of the experts' order and no others.
TEST_P(PermuteRows, ChunksWriteOnlyTheirRows) {
  const std::int64_t world = 3;
  const std::int64_t experts = 2;
  const std::int64_t model_dim = 5;
  Tensor all =
      real({experts, 4 * world, model_dim}, std::vector<double>(experts * 4 * world * model_dim, -1.0));
  std::vector<double> expected = values_of(all);
  for (const auto& [begin, slots] : {std::pair{1, 0}, {0, 1}, {1, 3}}) {
    const Tensor chunk = random_real({world * experts * slots, model_dim}, 1 + begin);
    PermuteRowsArgs args = {.from = chunk,
                            .to = all,
                            .world = world,
                            .local_experts = experts,
                            .slots = slots,
                            .slot_begin = begin,
                            .slot_capacity = 4};
    rows_to_experts(args, stream());
    wait();
    const std::vector<double> rows = values_of(chunk);
    for (std::int64_t i = 0; i < std::ssize(rows); ++i) {
      const std::int64_t row = i / model_dim;
      const std::int64_t slot = row % slots;
      const std::int64_t expert = row / slots % experts;
      const std::int64_t rank = row / slots / experts;
      expected[((expert * 4 + begin + slot) * world + rank) * model_dim + i % model_dim] = rows[i];
    }
    EXPECT_EQ(values_of(all), expected) << slots << " slots";

    Tensor back = real_output(chunk.shape());
    args.from = all;
    args.to = back;
    rows_from_experts(args, stream());
    wait();
    EXPECT_EQ(values_of(back), rows);
  }
}

TEST_P(PermuteRows, SaysWhatIsWrong) {
  const Tensor from = real_output({8, 3});
  Tensor to = real_output({2, 4, 3});
  PermuteRowsArgs args = {
      .from = from, .to = to, .world = 2, .local_experts = 2, .slots = 2, .slot_capacity = 2};
  args.slot_begin = 1;
  EXPECT_EQ(error_text([&] { rows_to_experts(args, stream()); }),
            "rows_to_experts: slots [1, 3) do not lie within the 2 slots of an expert");
  args.slot_begin = 0;
  args.slots = 1;
  EXPECT_EQ(error_text([&] { rows_to_experts(args, stream()); }),
            "rows_to_experts: from is (8, 3), expected (4, 3)");
  args.slots = 2;
  args.slot_capacity = 3;
  EXPECT_EQ(error_text([&] { rows_to_experts(args, stream()); }),
            "rows_to_experts: to is (2, 4, 3), expected (2, 6, 3)");
  args.world = 0;
  EXPECT_EQ(error_text([&] { rows_from_experts(args, stream()); }),
            "rows_from_experts: world is 0 and local_experts 2, expected 1 or more");
}

// Chunk i of a 2 x 3 grid goes to (i mod 2) * 3 + i div 2.
TEST_P(StridedChunkCopy, MatchesHandWorkedExample) {
  const Tensor from = real({6, 2}, counting(12));
  Tensor to = real_output({6, 2});
  const std::int64_t chunk_bytes = 2 * size_bytes(dtype());
  strided_chunk_copy({.from = from, .to = to, .rows = 2, .cols = 3, .chunk_bytes = chunk_bytes}, stream());
  wait();
  EXPECT_EQ(values_of(to), (std::vector<double>{0, 1, 4, 5, 8, 9, 2, 3, 6, 7, 10, 11}));
}

// Groups of 4 chunks share 2 pieces: chunks 0 to 7 are read at 0 1 0 1 2 3 2 3.
TEST_P(StridedChunkCopy, OnePieceServesSeveralChunks) {
  const Tensor from = real({4}, {10, 11, 12, 13});
  Tensor to = real_output({8});
  StridedChunkCopyArgs args = {
      .from = from, .to = to, .rows = 4, .cols = 2, .chunk_bytes = size_bytes(dtype())};
  args.group = 4;
  args.parts = 2;
  strided_chunk_copy(args, stream());
  wait();
  EXPECT_EQ(values_of(to), (std::vector<double>{10, 12, 11, 13, 10, 12, 11, 13}));
}

TEST_P(StridedChunkCopy, TwoCopiesWithSwappedGridGiveTheInputBack) {
  using Grid = std::array<std::int64_t, 3>;
  for (const auto& [rows, cols, elements] : {Grid{1, 1, 3}, {1, 7, 2}, {5, 1, 1}, {4, 6, 9}, {2, 2, 0}}) {
    const Tensor from = random_real({rows * cols, elements}, 1);
    Tensor middle = real_output(from.shape());
    Tensor back = real_output(from.shape());
    const std::int64_t chunk_bytes = elements * size_bytes(dtype());
    strided_chunk_copy({.from = from, .to = middle, .rows = rows, .cols = cols, .chunk_bytes = chunk_bytes},
                       stream());
    strided_chunk_copy({.from = middle, .to = back, .rows = cols, .cols = rows, .chunk_bytes = chunk_bytes},
                       stream());
    wait();
    EXPECT_EQ(values_of(back), values_of(from)) << rows << " x " << cols;
  }
}

TEST_P(StridedChunkCopy, SaysWhatIsWrong) {
  const Tensor from = real_output({6});
  Tensor to = real_output({6});
  const std::int64_t bytes_each = size_bytes(dtype());
  StridedChunkCopyArgs args = {.from = from, .to = to, .rows = 2, .cols = 3, .chunk_bytes = bytes_each};
  args.group = 4;
  args.parts = 2;
  EXPECT_EQ(error_text([&] { strided_chunk_copy(args, stream()); }),
            "strided_chunk_copy: parts 2 must divide group 4, and group the 6 chunks");
  args.group = 1;
  args.parts = 1;
  args.cols = 4;
  EXPECT_EQ(
      error_text([&] { strided_chunk_copy(args, stream()); }),
      fmt::format("strided_chunk_copy: from has {} bytes, expected {}", 6 * bytes_each, 8 * bytes_each));
  args.rows = 0;
  EXPECT_EQ(
      error_text([&] { strided_chunk_copy(args, stream()); }),
      fmt::format("strided_chunk_copy: 0 rows, 4 cols and chunks of {} bytes; rows and cols are 1 or more",
                  bytes_each));
}

TEST_P(SumCopies, MatchesHandWorkedExample) {
  const Tensor from = real({2, 3, 2}, {1, 2, 10, 20, 100, 200, -1, -2, 4, 4, 0, 1});
  Tensor to = real_output({2, 2});
  sum_copies({.from = from, .to = to}, stream());
  wait();
  EXPECT_EQ(values_of(to), (std::vector<double>{111, 222, 3, 3}));
}

TEST_P(SumCopies, MatchesTheDefinitionForAllShapes) {
  using Sizes = std::array<std::int64_t, 3>;
  for (const auto& [experts, copies, elements] :
       {Sizes{0, 2, 3}, {3, 2, 0}, {1, 1, 1}, {5, 1, 7}, {3, 4, 333}, {16, 8, 1000}}) {
    const Tensor from = random_real({experts, copies, elements}, 1);
    Tensor to = real_output({experts, elements});
    sum_copies({.from = from, .to = to}, stream());
    wait();
    const std::vector<double> all = values_of(from);
    std::vector<double> expected(experts * elements, 0.0);
    for (std::int64_t i = 0; i < std::ssize(all); ++i) {
      expected[i / (copies * elements) * elements + i % elements] += all[i];
    }
    EXPECT_TRUE(close(values_of(to), expected, product_tolerance(dtype(), copies)));
  }
}

TEST_P(SumCopies, SaysWhatIsWrong) {
  const Tensor from = real_output({2, 0, 3});
  Tensor to = real_output({2, 3});
  SumCopiesArgs args = {.from = from, .to = to};
  EXPECT_EQ(error_text([&] { sum_copies(args, stream()); }), "sum_copies: from holds no copies");
  args.from = {};
  EXPECT_EQ(error_text([&] { sum_copies(args, stream()); }),
            "sum_copies: from is missing, expected (2, 0, 3)");
  args.to.dtype = DType::kI64;
  EXPECT_EQ(error_text([&] { sum_copies(args, stream()); }),
            fmt::format("sum_copies: to is i64; {} computes in {}", to_string(device()),
                        device().is_cpu() ? "fp32 and fp64" : "fp32, fp16 and bf16"));
}

INSTANTIATE_TEST_SUITE_P(Backends, PermuteRows, ::testing::ValuesIn(all_backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, StridedChunkCopy, ::testing::ValuesIn(all_backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, SumCopies, ::testing::ValuesIn(all_backends()), backend_name);

}  // namespace
}  // namespace flex::testing
