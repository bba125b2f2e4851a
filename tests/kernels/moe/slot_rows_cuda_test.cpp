#include "kernels/moe/decode.h"
#include "kernels/moe/encode.h"
#include "tests/kernels/moe/cuda_parity.h"
#include "tests/kernels/moe/routing.h"

// encode, decode and their gradients at the sizes of real layers.
namespace flex::testing {
namespace {

class SlotRowsCuda : public CudaParity {};

const std::vector<SlotSizes> kRealSizes = {
    {1, 8, 1, 1, 1, 1, 1, 1},            // one access of 16 bytes in two types, less in none
    {3, 33, 2, 2, 3, 1, 3, 1},           // rows that are not aligned
    {1000, 33, 7, 3, 300, 2, 160, 4},    // the same, with parts and chunks
    {65, 2056, 3, 2, 50, 1, 50, 2},      // a last access of few lanes
    {40, 72, 48, 40, 30, 1, 32, 1},      // more choices than lanes in a warp
    {300, 256, 64, 5, 30, 4, 8, 8},      // more than two choices
    {61, 12296, 2, 2, 50, 1, 64, 1},     // rows longer than a block takes at once
    {2048, 1024, 8, 2, 450, 1, 512, 1},  // drops and padding
    {2048, 512, 32, 1, 80, 2, 40, 1}};   // Swin-MoE
// Two experts that take all tokens.
const SlotSizes kLargeSizes = {4096, 4096, 2, 2, 4096, 1, 4096, 1};

// Inputs of one case; the same for both sides.
struct Inputs {
  SlotSizes s;
  Routing routing;
  std::vector<double> rows, slots, gates;

  Inputs(const SlotSizes& sizes, DType dtype)
      : s(sizes),
        routing(random_routing(s.tokens, s.experts, s.top_k, 1)),
        rows(random_exact(s.tokens * s.model_dim, 2, dtype)),
        slots(random_exact(layout_of(s).num_rows() * s.model_dim, 3, dtype)),
        gates(random_exact(s.tokens * s.top_k, 4, DType::kF32)) {}
};

// Products summed over at most k choices, and dot products over a row: a thread adds 16 to 64 bytes of each
// round, the lanes and then the rounds of 1024 accesses or more follow.
double dot_tolerance(std::int64_t model_dim) {
  return chain_tolerance(DType::kF32, model_dim, 32 + model_dim / 256);
}

Outputs run_encode(Side& side, const Inputs& in, bool with_gates) {
  const SlotSizes& s = in.s;
  const Tensor x = side.real({s.tokens, s.model_dim}, in.rows);
  const Tensor indices = side.ints({s.tokens, s.top_k}, in.routing.indices);
  const Tensor locations = side.ints({s.tokens, s.top_k}, in.routing.locations);
  const Tensor counts = side.ints({s.experts}, in.routing.counts);
  const Tensor gates = side.gate({s.tokens, s.top_k}, in.gates);
  Tensor buffer = side.real_output({layout_of(s).num_rows(), s.model_dim});
  EncodeArgs args = {.x = x,
                     .indices = indices,
                     .locations = locations,
                     .counts = counts,
                     .capacity = s.capacity,
                     .layout = layout_of(s),
                     .buffer = buffer};
  if (with_gates) args.gates = gates;
  encode(args, side.stream());
  side.stream().synchronize_blocking();
  // Without gates rows are copied; with them each element is rounded once.
  return {{"buffer", values_of(buffer), with_gates ? 2.0 * unit_roundoff(side.real_type()) : 0.0}};
}

Outputs run_encode_backward(Side& side, const Inputs& in, bool with_gates, bool accumulate) {
  const SlotSizes& s = in.s;
  const Tensor dbuffer = side.real({layout_of(s).num_rows(), s.model_dim}, in.slots);
  const Tensor x = side.real({s.tokens, s.model_dim}, in.rows);
  const Tensor indices = side.ints({s.tokens, s.top_k}, in.routing.indices);
  const Tensor locations = side.ints({s.tokens, s.top_k}, in.routing.locations);
  const Tensor gates = side.gate({s.tokens, s.top_k}, in.gates);
  Tensor dx =
      accumulate ? side.real({s.tokens, s.model_dim}, in.rows) : side.real_output({s.tokens, s.model_dim});
  Tensor dgates = side.gate_output({s.tokens, s.top_k});
  EncodeBackwardArgs args = {.dbuffer = dbuffer,
                             .indices = indices,
                             .locations = locations,
                             .capacity = s.capacity,
                             .layout = layout_of(s),
                             .dx = dx,
                             .accumulate_dx = accumulate};
  if (with_gates) {
    args.x = x;
    args.gates = gates;
    args.dgates = dgates;
  }
  encode_backward(args, side.stream());
  side.stream().synchronize_blocking();
  Outputs outputs = {{"dx", values_of(dx), product_tolerance(side.real_type(), s.top_k + 1)}};
  if (with_gates) outputs.push_back({"dgates", values_of(dgates), dot_tolerance(s.model_dim)});
  return outputs;
}

Outputs run_decode(Side& side, const Inputs& in, bool with_gates) {
  const SlotSizes& s = in.s;
  const Tensor buffer = side.real({layout_of(s).num_rows(), s.model_dim}, in.slots);
  const Tensor indices = side.ints({s.tokens, s.top_k}, in.routing.indices);
  const Tensor locations = side.ints({s.tokens, s.top_k}, in.routing.locations);
  const Tensor gates = side.gate({s.tokens, s.top_k}, in.gates);
  Tensor y = side.real_output({s.tokens, s.model_dim});
  DecodeArgs args = {.buffer = buffer,
                     .indices = indices,
                     .locations = locations,
                     .capacity = s.capacity,
                     .layout = layout_of(s),
                     .y = y};
  if (with_gates) args.gates = gates;
  decode(args, side.stream());
  side.stream().synchronize_blocking();
  return {{"y", values_of(y), product_tolerance(side.real_type(), s.top_k)}};
}

Outputs run_decode_backward(Side& side, const Inputs& in, bool with_gates, bool in_place) {
  const SlotSizes& s = in.s;
  const Tensor dy = side.real({s.tokens, s.model_dim}, in.rows);
  Tensor buffer = side.real({layout_of(s).num_rows(), s.model_dim}, in.slots);
  const Tensor indices = side.ints({s.tokens, s.top_k}, in.routing.indices);
  const Tensor locations = side.ints({s.tokens, s.top_k}, in.routing.locations);
  const Tensor counts = side.ints({s.experts}, in.routing.counts);
  const Tensor gates = side.gate({s.tokens, s.top_k}, in.gates);
  Tensor dbuffer = side.real_output(buffer.shape());
  Tensor dgates = side.gate_output({s.tokens, s.top_k});
  DecodeBackwardArgs args = {.dy = dy,
                             .indices = indices,
                             .locations = locations,
                             .counts = counts,
                             .capacity = s.capacity,
                             .dbuffer_layout = layout_of(s),
                             .dbuffer = in_place ? buffer : dbuffer};
  if (with_gates) {
    args.buffer = buffer;
    args.buffer_layout = layout_of(s);
    args.gates = gates;
    args.dgates = dgates;
  }
  decode_backward(args, side.stream());
  side.stream().synchronize_blocking();
  Outputs outputs = {
      {"dbuffer", values_of(in_place ? buffer : dbuffer), 2.0 * unit_roundoff(side.real_type())}};
  if (with_gates) outputs.push_back({"dgates", values_of(dgates), dot_tolerance(s.model_dim)});
  return outputs;
}

std::string describe(const SlotSizes& s) {
  return to_string(Shape{s.tokens, s.model_dim, s.experts, s.top_k}) + " of " +
         to_string(Shape{s.capacity, s.parts, s.slots, s.chunks});
}

TEST_P(SlotRowsCuda, EncodeEqualsItsTwin) {
  for (const SlotSizes& s : kRealSizes) {
    SCOPED_TRACE(describe(s));
    const Inputs in(s, dtype());
    for (const bool with_gates : {false, true}) {
      expect_parity(dtype(), [&](Side& side) { return run_encode(side, in, with_gates); });
    }
  }
}

TEST_P(SlotRowsCuda, EncodeBackwardEqualsItsTwin) {
  for (const SlotSizes& s : kRealSizes) {
    SCOPED_TRACE(describe(s));
    const Inputs in(s, dtype());
    for (const bool with_gates : {false, true}) {
      for (const bool accumulate : {false, true}) {
        expect_parity(dtype(),
                      [&](Side& side) { return run_encode_backward(side, in, with_gates, accumulate); });
      }
    }
  }
}

TEST_P(SlotRowsCuda, DecodeEqualsItsTwin) {
  for (const SlotSizes& s : kRealSizes) {
    SCOPED_TRACE(describe(s));
    const Inputs in(s, dtype());
    for (const bool with_gates : {false, true}) {
      expect_parity(dtype(), [&](Side& side) { return run_decode(side, in, with_gates); });
    }
  }
}

TEST_P(SlotRowsCuda, DecodeBackwardEqualsItsTwin) {
  for (const SlotSizes& s : kRealSizes) {
    SCOPED_TRACE(describe(s));
    const Inputs in(s, dtype());
    expect_parity(dtype(), [&](Side& side) { return run_decode_backward(side, in, false, false); });
    for (const bool in_place : {false, true}) {
      expect_parity(dtype(), [&](Side& side) { return run_decode_backward(side, in, true, in_place); });
    }
  }
}

TEST(SlotRowsCudaLarge, EqualTheirTwins) {
  FLEX_SKIP_WITHOUT_CUDA();
  const Inputs in(kLargeSizes, DType::kBF16);
  expect_parity(DType::kBF16, [&](Side& side) { return run_encode(side, in, true); });
  expect_parity(DType::kBF16, [&](Side& side) { return run_decode(side, in, true); });
  expect_parity(DType::kBF16, [&](Side& side) { return run_decode_backward(side, in, true, true); });
}

// Tensors that do not start on a 16-byte boundary, as a borrowed buffer may: rows [1, T] of a larger one.
TEST_P(SlotRowsCuda, TakesBuffersThatAreNotAligned) {
  const SlotSizes s = {64, 64, 4, 2, 40, 1, 40, 1};
  const Inputs in(s, dtype());
  Side gpu(Device::cuda(0), dtype());
  const Outputs expected = run_encode(gpu, in, true);

  const std::int64_t rows = layout_of(s).num_rows();
  std::vector<double> shifted(in.rows);
  shifted.insert(shifted.begin(), 0.0);
  const Tensor x = gpu.real({s.tokens * s.model_dim + 1}, shifted);
  Tensor buffer = gpu.real_output({rows * s.model_dim + 1});
  const Tensor indices = gpu.ints({s.tokens, s.top_k}, in.routing.indices);
  const Tensor locations = gpu.ints({s.tokens, s.top_k}, in.routing.locations);
  const Tensor counts = gpu.ints({s.experts}, in.routing.counts);
  const Tensor gates = gpu.gate({s.tokens, s.top_k}, in.gates);
  const TensorView to = buffer.view().narrowed(1, rows * s.model_dim).reshaped({rows, s.model_dim});
  encode({.x = x.view().narrowed(1, s.tokens * s.model_dim).reshaped({s.tokens, s.model_dim}),
          .indices = indices,
          .locations = locations,
          .counts = counts,
          .gates = gates,
          .capacity = s.capacity,
          .layout = layout_of(s),
          .buffer = to},
         gpu.stream());
  gpu.stream().synchronize_blocking();
  EXPECT_EQ(values_of(to), expected[0].values);
}

// A buffer of more than 2^31 elements, of which the rows that are looked at lie at both ends.
TEST(SlotRowsCudaLarge, OffsetsBeyondTwoToThe31) {
  FLEX_SKIP_WITHOUT_CUDA();
  const std::int64_t model_dim = 8192;
  const std::int64_t slots = 270000;
  const std::vector<double> locations = {0, 1, 262144, 269999};
  Side gpu(Device::cuda(0), DType::kBF16);
  const std::vector<double> values = random_exact(4 * model_dim, 1, DType::kBF16);
  const Tensor x = gpu.real({4, model_dim}, values);
  const Tensor indices = gpu.ints({4, 1}, {0, 0, 0, 0});
  const Tensor places = gpu.ints({4, 1}, locations);
  const Tensor counts = gpu.ints({1}, {static_cast<double>(slots)});  // nothing is unused
  const SlotLayout layout = {.num_experts = 1, .capacity = slots};
  Tensor buffer = Tensor::zeros(DType::kBF16, {slots, model_dim}, gpu.device());
  encode({.x = x,
          .indices = indices,
          .locations = places,
          .counts = counts,
          .capacity = slots,
          .layout = layout,
          .buffer = buffer},
         gpu.stream());
  Tensor y = gpu.real_output({4, model_dim});
  decode({.buffer = buffer,
          .indices = indices,
          .locations = places,
          .capacity = slots,
          .layout = layout,
          .y = y},
         gpu.stream());
  gpu.stream().synchronize_blocking();
  EXPECT_EQ(values_of(y), values);
  for (std::size_t token = 0; token < 4; ++token) {
    const ConstTensorView row(buffer.view().slice<std::uint16_t>(static_cast<std::int64_t>(locations[token])),
                              DType::kBF16, {model_dim}, gpu.device());
    const auto begin = values.begin() + static_cast<std::ptrdiff_t>(token) * model_dim;
    EXPECT_EQ(values_of(row), std::vector<double>(begin, begin + model_dim)) << "token " << token;
  }

  // With no counted choices every slot is unused.
  const Tensor none = gpu.ints({1}, {0});
  const Tensor nowhere = gpu.ints({4, 1}, std::vector<double>(4, static_cast<double>(slots)));
  encode({.x = x,
          .indices = indices,
          .locations = nowhere,
          .counts = none,
          .capacity = slots,
          .layout = layout,
          .buffer = buffer},
         gpu.stream());
  gpu.stream().synchronize_blocking();
  const ConstTensorView last(buffer.view().slice<std::uint16_t>(slots - 1), DType::kBF16, {model_dim},
                             gpu.device());
  EXPECT_EQ(values_of(last), std::vector<double>(model_dim, 0.0));
}

INSTANTIATE_TEST_SUITE_P(Types, SlotRowsCuda, ::testing::ValuesIn(kCudaTypes), dtype_name);

}  // namespace
}  // namespace flex::testing
