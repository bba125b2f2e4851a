#include "kernels/moe/permute_chunks.h"
#include "tests/kernels/moe/cuda_parity.h"

// Copies at the sizes of real layers: they move bytes, so that both sides agree exactly.
namespace flex::testing {
namespace {

class PermuteCuda : public CudaParity {};

TEST_P(PermuteCuda, RowsEqualTheirTwins) {
  struct Sizes {
    std::int64_t world, local_experts, slots, begin, capacity, model_dim;
  };
  for (const Sizes& s : {Sizes{1, 1, 0, 0, 1, 8},
                         {1, 1, 1, 0, 1, 1},
                         {3, 2, 5, 2, 8, 33},
                         {8, 4, 64, 64, 128, 512},
                         {2, 1, 3, 0, 3, 16392}}) {
    SCOPED_TRACE(to_string(Shape{s.world, s.local_experts, s.slots, s.model_dim}));
    const std::int64_t rows = s.world * s.local_experts * s.slots;
    const std::int64_t expert_rows = s.capacity * s.world;
    const auto exchange = random_exact(rows * s.model_dim, 1, dtype());
    const auto experts = random_exact(s.local_experts * expert_rows * s.model_dim, 2, dtype());
    expect_parity(dtype(), [&](Side& side) -> Outputs {
      const Tensor from = side.real({rows, s.model_dim}, exchange);
      Tensor to = side.real({s.local_experts, expert_rows, s.model_dim}, experts);
      Tensor back = side.real_output({rows, s.model_dim});
      PermuteRowsArgs args = {.from = from,
                              .to = to,
                              .world = s.world,
                              .local_experts = s.local_experts,
                              .slots = s.slots,
                              .slot_begin = s.begin,
                              .slot_capacity = s.capacity};
      rows_to_experts(args, side.stream());
      args.from = to;
      args.to = back;
      rows_from_experts(args, side.stream());
      side.stream().synchronize_blocking();
      return {{"to", values_of(to)}, {"back", values_of(back)}};
    });
  }
}

TEST_P(PermuteCuda, StridedCopiesEqualTheirTwins) {
  struct Sizes {
    std::int64_t rows, cols, group, parts, elements;  // of a chunk
  };
  for (const Sizes& s :
       {Sizes{1, 1, 1, 1, 1}, {2, 4, 1, 1, 0}, {2, 4, 4, 2, 33}, {8, 2, 1, 1, 65536}, {3, 5, 5, 1, 8191}}) {
    SCOPED_TRACE(to_string(Shape{s.rows, s.cols, s.group, s.elements}));
    const std::int64_t chunks = s.rows * s.cols;
    const auto values = random_exact(chunks * s.elements, 1, dtype());
    expect_parity(dtype(), [&](Side& side) -> Outputs {
      const Tensor from = side.real({chunks, s.elements}, values);
      Tensor to = side.real_output({chunks, s.elements});
      strided_chunk_copy({.from = from,
                          .to = to,
                          .rows = s.rows,
                          .cols = s.cols,
                          .chunk_bytes = s.elements * size_bytes(side.real_type()),
                          .group = s.group,
                          .parts = s.parts},
                         side.stream());
      side.stream().synchronize_blocking();
      return {{"to", values_of(to)}};
    });
  }
}

TEST_P(PermuteCuda, SumsOfCopiesEqualTheirTwins) {
  struct Sizes {
    std::int64_t experts, copies, elements;
  };
  for (const Sizes& s : {Sizes{0, 2, 8}, {1, 1, 1}, {3, 2, 33}, {4, 8, 4096}, {2, 3, 262144}}) {
    SCOPED_TRACE(to_string(Shape{s.experts, s.copies, s.elements}));
    const auto values = random_exact(s.experts * s.copies * s.elements, 1, dtype());
    expect_parity(dtype(), [&](Side& side) -> Outputs {
      const Tensor from = side.real({s.experts, s.copies, s.elements}, values);
      Tensor to = side.real_output({s.experts, s.elements});
      sum_copies({.from = from, .to = to}, side.stream());
      side.stream().synchronize_blocking();
      return {{"to", values_of(to), product_tolerance(side.real_type(), s.copies)}};
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Types, PermuteCuda, ::testing::ValuesIn(kCudaTypes), dtype_name);

}  // namespace
}  // namespace flex::testing
