#include "kernels/moe/gshard_einsum.h"

#include "kernels/moe/decode.h"
#include "kernels/moe/encode.h"
#include "tests/kernels/moe/routing.h"
#include "tests/support/finite_difference.h"
#include "tests/support/kernel_test.h"
#include "tests/support/test_gemm.h"

namespace flex::testing {
namespace {

// In one part and one chunk, whose order of rows is the mask's.
const std::vector<SlotSizes> kDenseSizes = {{0, 4, 2, 1, 3, 1, 3, 1},
                                            {1, 1, 1, 1, 1, 1, 1, 1},
                                            {33, 37, 7, 3, 11, 1, 11, 1},
                                            {5, 3, 4, 2, 0, 1, 0, 1}};

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

TEST_P(GshardEinsum, MatchesHandWorkedGradient) {
  const Tensor indices = ints({2, 2}, {1, 0, 1, 0});
  const Tensor locations = ints({2, 2}, {0, 0, 1, 2});  // the last one is dropped
  const Tensor dy = real({2, 1}, {2, -1});
  const Tensor buffer = real({4, 1}, {1, 2, 3, 4});
  Tensor dmask = real_output({2, 2, 2});
  gshard_decode_backward_mask({.dy = dy, .buffer = buffer, .dmask = dmask, .gemm = test_gemm(device())},
                              stream());
  Tensor dgates = gate_output({2, 2});
  gshard_mask_backward({.dmask = dmask, .indices = indices, .locations = locations, .dgates = dgates},
                       stream());
  wait();
  EXPECT_EQ(values_of(dmask), (std::vector<double>{2, 4, 6, 8, -1, -2, -3, -4}));
  EXPECT_EQ(values_of(dgates), (std::vector<double>{6, 2, -4, 0}));
}

// The same sums as the sparse kernels, of at most k terms that are not zero.
TEST_P(GshardEinsum, GivesWhatEncodeAndDecodeGive) {
  for (const SlotSizes& s : kDenseSizes) {
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

// Gradients of `rows` (T, M) weighted into slots, or of slots weighted into rows, one way and the other.
TEST_P(GshardEinsum, GradientsAreThoseOfEncodeAndDecode) {
  for (const SlotSizes& s : kDenseSizes) {
    const Routing routing = random_routing(s.tokens, s.experts, s.top_k, 1);
    const Shape slots = {s.experts * s.capacity, s.model_dim};
    const Tensor rows = random_real({s.tokens, s.model_dim}, 2);  // dy of decode, x of encode
    const Tensor filled = random_real(slots, 3);                  // buffer of decode, dbuffer of encode
    const Tensor gates = random_gate_real({s.tokens, s.top_k}, 4);
    const Tensor indices = ints({s.tokens, s.top_k}, routing.indices);
    const Tensor locations = ints({s.tokens, s.top_k}, routing.locations);
    const Tensor counts = ints({s.experts}, routing.counts);
    Tensor dbuffer = real_output(slots);
    Tensor dx = real_output(rows.shape());
    Tensor dgates_decode = gate_output(gates.shape());
    Tensor dgates_encode = gate_output(gates.shape());
    decode_backward({.dy = rows,
                     .buffer = filled,
                     .indices = indices,
                     .locations = locations,
                     .counts = counts,
                     .gates = gates,
                     .capacity = s.capacity,
                     .buffer_layout = layout_of(s),
                     .dbuffer_layout = layout_of(s),
                     .dbuffer = dbuffer,
                     .dgates = dgates_decode},
                    stream());
    encode_backward({.dbuffer = filled,
                     .x = rows,
                     .indices = indices,
                     .locations = locations,
                     .gates = gates,
                     .capacity = s.capacity,
                     .layout = layout_of(s),
                     .dx = dx,
                     .dgates = dgates_encode},
                    stream());

    Tensor mask = real_output({s.tokens, s.experts, s.capacity});
    Tensor dmask = real_output(mask.shape());
    Tensor dense_dbuffer = real_output(slots);
    Tensor dense_dx = real_output(rows.shape());
    Tensor dense_dgates = gate_output(gates.shape());
    GemmAlgorithms* gemm = test_gemm(device());
    gshard_mask(
        {.indices = indices, .locations = locations, .gates = gates, .capacity = s.capacity, .mask = mask},
        stream());
    gshard_encode({.x = rows, .mask = mask, .buffer = dense_dbuffer, .gemm = gemm}, stream());
    gshard_decode({.buffer = filled, .mask = mask, .y = dense_dx, .gemm = gemm}, stream());
    gshard_decode_backward_mask({.dy = rows, .buffer = filled, .dmask = dmask, .gemm = gemm}, stream());
    gshard_mask_backward({.dmask = dmask, .indices = indices, .locations = locations, .dgates = dense_dgates},
                         stream());
    wait();
    // Sums of at most k terms that are not zero, with gates rounded to the mask's type; and sums of M terms.
    const double few = 2.0 * product_tolerance(dtype(), s.top_k) + 2.0 * unit_roundoff(dtype());
    const double many = 2.0 * product_tolerance(dtype(), s.model_dim);
    EXPECT_TRUE(close(values_of(dense_dbuffer), values_of(dbuffer), few));
    EXPECT_TRUE(close(values_of(dense_dx), values_of(dx), few));
    EXPECT_TRUE(close(values_of(dense_dgates), values_of(dgates_decode), many));
    EXPECT_TRUE(close(values_of(dense_dgates), values_of(dgates_encode), many));
  }
}

class GshardEinsumGradient : public GshardEinsum {
 protected:
  static constexpr SlotSizes kSizes = {9, 5, 4, 2, 3, 1, 3, 1};  // some of the 18 choices find no slot

  void SetUp() override {
    GshardEinsum::SetUp();
    const Routing routing = random_routing(kSizes.tokens, kSizes.experts, kSizes.top_k, 5);
    indices_ = ints({kSizes.tokens, kSizes.top_k}, routing.indices);
    locations_ = ints({kSizes.tokens, kSizes.top_k}, routing.locations);
    gates_ = random_gate_real({kSizes.tokens, kSizes.top_k}, 6);
    mask_ = real_output({kSizes.tokens, kSizes.experts, kSizes.capacity});
    rows_ = random_real({kSizes.tokens, kSizes.model_dim}, 7);
    slots_ = random_real({kSizes.experts * kSizes.capacity, kSizes.model_dim}, 8);
  }

  void make_mask() {
    gshard_mask({.indices = indices_,
                 .locations = locations_,
                 .gates = gates_,
                 .capacity = kSizes.capacity,
                 .mask = mask_},
                stream());
  }
  // sum of out * weights.
  [[nodiscard]] double loss(const Tensor& out, const Tensor& weights) {
    wait();
    return inner_product(values_of(out), values_of(weights));
  }
  [[nodiscard]] double decode_loss(const Tensor& weights) {
    make_mask();
    Tensor y = real_output(rows_.shape());
    gshard_decode({.buffer = slots_, .mask = mask_, .y = y}, stream());
    return loss(y, weights);
  }
  [[nodiscard]] double encode_loss(const Tensor& weights) {
    make_mask();
    Tensor buffer = real_output(slots_.shape());
    gshard_encode({.x = rows_, .mask = mask_, .buffer = buffer}, stream());
    return loss(buffer, weights);
  }
  [[nodiscard]] std::vector<double> gate_gradient(const Tensor& rows, const Tensor& slots) {
    Tensor dmask = real_output(mask_.shape());
    Tensor dgates = gate_output(gates_.shape());
    gshard_decode_backward_mask({.dy = rows, .buffer = slots, .dmask = dmask}, stream());
    gshard_mask_backward({.dmask = dmask, .indices = indices_, .locations = locations_, .dgates = dgates},
                         stream());
    wait();
    return values_of(dgates);
  }

  Tensor indices_, locations_, gates_, mask_, rows_, slots_;
};

TEST_P(GshardEinsumGradient, OfDecodeEqualsFiniteDifferences) {
  const Tensor dy = random_real(rows_.shape(), 9);
  const auto loss = [&] { return decode_loss(dy); };
  EXPECT_TRUE(close(gate_gradient(dy, slots_), numeric_gradient(gates_, loss), kFiniteDifferenceTolerance));
  make_mask();
  Tensor dbuffer = real_output(slots_.shape());
  gshard_encode({.x = dy, .mask = mask_, .buffer = dbuffer}, stream());
  wait();
  EXPECT_TRUE(close(values_of(dbuffer), numeric_gradient(slots_, loss), kFiniteDifferenceTolerance));
}

TEST_P(GshardEinsumGradient, OfEncodeEqualsFiniteDifferences) {
  const Tensor dbuffer = random_real(slots_.shape(), 9);
  const auto loss = [&] { return encode_loss(dbuffer); };
  EXPECT_TRUE(
      close(gate_gradient(rows_, dbuffer), numeric_gradient(gates_, loss), kFiniteDifferenceTolerance));
  make_mask();
  Tensor dx = real_output(rows_.shape());
  gshard_decode({.buffer = dbuffer, .mask = mask_, .y = dx}, stream());
  wait();
  EXPECT_TRUE(close(values_of(dx), numeric_gradient(rows_, loss), kFiniteDifferenceTolerance));
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
  EXPECT_EQ(
      error_text([&] { gshard_decode_backward_mask({.dy = rows, .buffer = rows, .dmask = mask}, stream()); }),
      "gshard_decode_backward_mask: buffer is (2, 7), expected (12, 7)");
  Tensor dgates = gate_output({2, 3});
  GshardMaskBackwardArgs backward = {
      .dmask = mask, .indices = indices, .locations = indices, .dgates = dgates};
  EXPECT_EQ(error_text([&] { gshard_mask_backward(backward, stream()); }),
            "gshard_mask_backward: dgates is (2, 3), expected (2, 1)");
  backward.dmask = rows;
  EXPECT_EQ(error_text([&] { gshard_mask_backward(backward, stream()); }),
            "gshard_mask_backward: dmask is (2, 7), expected (2, 7, 0)");
}

INSTANTIATE_TEST_SUITE_P(Backends, GshardEinsum, ::testing::ValuesIn(all_backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Double, GshardEinsumGradient, ::testing::ValuesIn(double_backend()), backend_name);

}  // namespace
}  // namespace flex::testing
