#include "kernels/moe/gshard_einsum.h"

#include "kernels/moe/decode.h"
#include "kernels/moe/encode.h"
#include "tests/kernels/moe/routing.h"
#include "tests/support/kernel_test.h"
#include "tests/support/test_gemm.h"

namespace flex::testing {
namespace {

class GshardEinsum : public KernelTest {};

TEST_P(GshardEinsum, MatchesHandWorkedExample) {
  const Tensor indices = ints({2, 2}, {1, 0, 1, 0});
  const Tensor locations = ints({2, 2}, {0, 0, 1, 2});  // the last one is dropped
  const Tensor gates = gate_real({2, 2}, {0.5, 0.25, 2, 4});
  Tensor mask = real_output({2, 2, 2});
  GshardMaskArgs args = {.indices = indices, .locations = locations, .capacity = 2, .mask = mask};
  gshard_mask(args, stream());
  wait();
  EXPECT_EQ(values_of(mask), (std::vector<double>{1, 0, 1, 0, 0, 0, 0, 1}));
  args.gates = gates;
  gshard_mask(args, stream());
  wait();
  EXPECT_EQ(values_of(mask), (std::vector<double>{0.25, 0, 0.5, 0, 0, 0, 0, 2}));

  const Tensor x = real({2, 1}, {8, 3});
  Tensor buffer = real_output({4, 1});
  gshard_encode({.x = x, .mask = mask, .buffer = buffer, .gemm = test_gemm(device())}, stream());
  wait();
  EXPECT_EQ(values_of(buffer), (std::vector<double>{2, 0, 4, 6}));
  Tensor y = real_output({2, 1});
  gshard_decode({.buffer = buffer, .mask = mask, .y = y, .gemm = test_gemm(device())}, stream());
  wait();
  EXPECT_EQ(values_of(y), (std::vector<double>{2.5, 12}));
}

// The same sums as the sparse kernels, of at most k terms that are not zero.
TEST_P(GshardEinsum, GivesWhatEncodeAndDecodeGive) {
  for (const SlotSizes& s : std::vector<SlotSizes>{{0, 4, 2, 1, 3, 1, 3, 1},
                                                   {1, 1, 1, 1, 1, 1, 1, 1},
                                                   {33, 37, 7, 3, 11, 1, 11, 1},
                                                   {5, 3, 4, 2, 0, 1, 0, 1}}) {
    const Routing routing = random_routing(s.tokens, s.experts, s.top_k, 1);
    const Tensor x = random_real({s.tokens, s.model_dim}, 2);
    const Tensor gates = random_gate_real({s.tokens, s.top_k}, 3);
    const Tensor indices = ints({s.tokens, s.top_k}, routing.indices);
    const Tensor locations = ints({s.tokens, s.top_k}, routing.locations);
    const Tensor counts = ints({s.experts}, routing.counts);
    Tensor buffer = real_output({s.experts * s.capacity, s.model_dim});
    Tensor dense_buffer = real_output(buffer.shape());
    Tensor y = real_output(x.shape());
    Tensor dense_y = real_output(x.shape());
    Tensor mask = real_output({s.tokens, s.experts, s.capacity});
    encode({.x = x,
            .indices = indices,
            .locations = locations,
            .counts = counts,
            .gates = gates,
            .capacity = s.capacity,
            .layout = layout_of(s),
            .buffer = buffer},
           stream());
    decode({.buffer = buffer,
            .indices = indices,
            .locations = locations,
            .gates = gates,
            .capacity = s.capacity,
            .layout = layout_of(s),
            .y = y},
           stream());
    gshard_mask(
        {.indices = indices, .locations = locations, .gates = gates, .capacity = s.capacity, .mask = mask},
        stream());
    gshard_encode({.x = x, .mask = mask, .buffer = dense_buffer, .gemm = test_gemm(device())}, stream());
    gshard_decode({.buffer = dense_buffer, .mask = mask, .y = dense_y, .gemm = test_gemm(device())},
                  stream());
    wait();
    // Besides, the mask holds the gates rounded to its type.
    const double rounding = unit_roundoff(dtype());
    EXPECT_TRUE(
        close(values_of(dense_buffer), values_of(buffer), 2.0 * product_tolerance(dtype(), 1) + rounding));
    EXPECT_TRUE(
        close(values_of(dense_y), values_of(y), 2.0 * product_tolerance(dtype(), s.top_k) + 2.0 * rounding));
  }
}

TEST_P(GshardEinsum, SaysWhatIsWrong) {
  const Tensor indices = ints({2, 1}, {0, 0});
  Tensor mask = real_output({2, 3, 4});
  GshardMaskArgs args = {.indices = indices, .locations = indices, .capacity = 5, .mask = mask};
  EXPECT_EQ(error_text([&] { gshard_mask(args, stream()); }),
            "gshard_mask: mask is (2, 3, 4), expected (2, 3, 5)");
  args.capacity = -1;
  EXPECT_EQ(error_text([&] { gshard_mask(args, stream()); }),
            "gshard_mask: capacity is -1, expected 0 or more");
  Tensor rows = real_output({2, 7});
  EXPECT_EQ(error_text([&] { gshard_encode({.x = rows, .mask = mask, .buffer = rows}, stream()); }),
            "gshard_encode: buffer is (2, 7), expected (12, 7)");
  EXPECT_EQ(error_text([&] { gshard_decode({.buffer = rows, .mask = mask, .y = rows}, stream()); }),
            "gshard_decode: buffer is (2, 7), expected (12, 7)");
}

INSTANTIATE_TEST_SUITE_P(Backends, GshardEinsum, ::testing::ValuesIn(all_backends()), backend_name);

}  // namespace
}  // namespace flex::testing
