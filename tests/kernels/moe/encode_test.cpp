#include "kernels/moe/encode.h"

#include "tests/kernels/moe/routing.h"
#include "tests/support/finite_difference.h"
#include "tests/support/kernel_test.h"

namespace flex::testing {
namespace {

class Encode : public KernelTest {};
class EncodeBackward : public KernelTest {};
class EncodeGradient : public KernelTest {};

// Two experts of 3 slots, of which 2 may be taken. Expert 0 gets tokens 0, 1 and (second choice) 2; expert 1
// gets 2, 0, 1.
const std::vector<double> kTokens = {1, 2, 3, 4, 5, 6};
const std::vector<double> kIndices = {0, 1, 0, 1, 1, 0};
const std::vector<double> kLocations = {0, 1, 1, 2, 0, 2};
const std::vector<double> kCounts = {3, 3};
const std::vector<double> kGates = {0.5, 0.25, 1, 8, 2, 4};
const SlotLayout kLayout = {.num_experts = 2, .capacity = 3};

TEST_P(Encode, MatchesHandWorkedExample) {
  const Tensor x = real({3, 2}, kTokens);
  const Tensor indices = ints({3, 2}, kIndices);
  const Tensor locations = ints({3, 2}, kLocations);
  const Tensor counts = ints({2}, kCounts);
  Tensor buffer = real_output({6, 2});
  EncodeArgs args = {.x = x,
                     .indices = indices,
                     .locations = locations,
                     .counts = counts,
                     .capacity = 2,
                     .layout = kLayout,
                     .buffer = buffer};
  encode(args, stream());
  wait();
  EXPECT_EQ(values_of(buffer), (std::vector<double>{1, 2, 3, 4, 0, 0, 5, 6, 1, 2, 0, 0}));

  const Tensor gates = gate_real({3, 2}, kGates);
  args.gates = gates;
  encode(args, stream());
  wait();
  EXPECT_EQ(values_of(buffer), (std::vector<double>{0.5, 1, 3, 4, 0, 0, 10, 12, 0.25, 0.5, 0, 0}));
}

TEST_P(EncodeBackward, MatchesHandWorkedExample) {
  const Tensor x = real({3, 2}, kTokens);
  const Tensor dbuffer = real({6, 2}, {1, 1, 2, 0, 9, 9, 3, 1, 0, 4, 9, 9});
  const Tensor indices = ints({3, 2}, kIndices);
  const Tensor locations = ints({3, 2}, kLocations);
  Tensor dx = real_output({3, 2});
  EncodeBackwardArgs args = {.dbuffer = dbuffer,
                             .indices = indices,
                             .locations = locations,
                             .capacity = 2,
                             .layout = kLayout,
                             .dx = dx};
  encode_backward(args, stream());
  wait();
  EXPECT_EQ(values_of(dx), (std::vector<double>{1, 5, 2, 0, 3, 1}));
  args.accumulate_dx = true;
  encode_backward(args, stream());
  wait();
  EXPECT_EQ(values_of(dx), (std::vector<double>{2, 10, 4, 0, 6, 2}));

  const Tensor gates = gate_real({3, 2}, kGates);
  Tensor dgates = gate_output({3, 2});
  args.x = x;
  args.gates = gates;
  args.dgates = dgates;
  args.accumulate_dx = false;
  encode_backward(args, stream());
  wait();
  EXPECT_EQ(values_of(dx), (std::vector<double>{0.5, 1.5, 2, 0, 6, 2}));
  EXPECT_EQ(values_of(dgates), (std::vector<double>{3, 8, 6, 0, 21, 0}));
}

// Each row by walking the layout. One product of two factors for each element: it is rounded once.
TEST_P(Encode, MatchesTheDefinitionForAllShapes) {
  for (const SlotSizes& s : kSlotSizes) {
    const SlotLayout layout = layout_of(s);
    const Routing routing = random_routing(s.tokens, s.experts, s.top_k, 1);
    const Tensor x = random_real({s.tokens, s.model_dim}, 2);
    const Tensor gates = random_gate_real({s.tokens, s.top_k}, 3);
    const Tensor indices = ints({s.tokens, s.top_k}, routing.indices);
    const Tensor locations = ints({s.tokens, s.top_k}, routing.locations);
    const Tensor counts = ints({s.experts}, routing.counts);
    Tensor buffer = real_output({layout.num_rows(), s.model_dim});
    encode({.x = x,
            .indices = indices,
            .locations = locations,
            .counts = counts,
            .gates = gates,
            .capacity = s.capacity,
            .layout = layout,
            .buffer = buffer},
           stream());
    wait();

    const std::vector<double> tokens = values_of(x);
    const std::vector<double> weights = values_of(gates);
    std::vector<double> expected(layout.num_rows() * s.model_dim, 0.0);
    for (const KeptChoice& kept : kept_choices(routing, s)) {
      for (std::int64_t c = 0; c < s.model_dim; ++c) {
        expected[kept.row * s.model_dim + c] =
            weights[kept.token * s.top_k + kept.choice] * tokens[kept.token * s.model_dim + c];
      }
    }
    EXPECT_TRUE(close(values_of(buffer), expected, product_tolerance(dtype(), 1))) << s.tokens << " tokens";
  }
}

TEST_P(EncodeGradient, MatchesFiniteDifferences) {
  const SlotLayout layout = {.num_experts = 3, .capacity = 6, .parts = 2, .chunks = 2};
  const Routing routing = random_routing(9, 3, 2, 4);
  Tensor x = random_real({9, 5}, 5);
  Tensor gates = random_gate_real({9, 2}, 6);
  const Tensor indices = ints({9, 2}, routing.indices);
  const Tensor locations = ints({9, 2}, routing.locations);
  const Tensor counts = ints({3}, routing.counts);
  const Tensor dbuffer = random_real({18, 5}, 7);
  Tensor buffer = real_output({18, 5});
  const auto loss = [&] {
    encode({.x = x,
            .indices = indices,
            .locations = locations,
            .counts = counts,
            .gates = gates,
            .capacity = 5,  // drops some of the 6 choices that an expert gets on average
            .layout = layout,
            .buffer = buffer},
           stream());
    wait();
    return inner_product(values_of(buffer), values_of(dbuffer));
  };
  Tensor dx = real_output({9, 5});
  Tensor dgates = gate_output({9, 2});
  encode_backward({.dbuffer = dbuffer,
                   .x = x,
                   .indices = indices,
                   .locations = locations,
                   .gates = gates,
                   .capacity = 5,
                   .layout = layout,
                   .dx = dx,
                   .dgates = dgates},
                  stream());
  wait();
  EXPECT_TRUE(close(values_of(dx), numeric_gradient(x, loss), kFiniteDifferenceTolerance));
  EXPECT_TRUE(close(values_of(dgates), numeric_gradient(gates, loss), kFiniteDifferenceTolerance));
}

TEST_P(Encode, SaysWhatIsWrong) {
  const Tensor x = real({3, 2}, kTokens);
  const Tensor indices = ints({3, 2}, kIndices);
  const Tensor locations = ints({3, 2}, kLocations);
  const Tensor counts = ints({2}, kCounts);
  Tensor buffer = real_output({6, 2});
  const EncodeArgs good = {.x = x,
                           .indices = indices,
                           .locations = locations,
                           .counts = counts,
                           .capacity = 2,
                           .layout = kLayout,
                           .buffer = buffer};
  const auto text = [&](auto change) {
    EncodeArgs args = good;
    change(args);
    return error_text([&] { encode(args, stream()); });
  };
  EXPECT_EQ(text([](EncodeArgs& a) { a.counts = {}; }), "encode: counts is missing, expected (2)");
  EXPECT_EQ(text([](EncodeArgs& a) { a.counts.shape = {3}; }), "encode: counts is (3), expected (2)");
  EXPECT_EQ(text([](EncodeArgs& a) {
              a.locations.shape = {3, 1};
            }),
            "encode: locations is (3, 1), expected (3, 2)");
  EXPECT_EQ(text([](EncodeArgs& a) { a.indices.dtype = DType::kI64; }),
            "encode: indices is i64, expected i32");
  EXPECT_EQ(text([](EncodeArgs& a) {
              a.buffer.shape = {4, 2};
            }),
            "encode: buffer is (4, 2), expected (6, 2)");
  EXPECT_EQ(text([](EncodeArgs& a) { a.x = a.x.narrowed(0, 1); }),
            "encode: x has a stride of 2, expected a contiguous (3, 1)");
  EXPECT_EQ(text([](EncodeArgs& a) { a.capacity = 4; }),
            "encode: capacity is 4, expected 0 to the layout's 3");
  EXPECT_EQ(text([](EncodeArgs& a) { a.layout.parts = 2; }),
            "encode: 2 parts do not divide a layout's 3 slots");
  EXPECT_EQ(text([](EncodeArgs& a) { a.layout.chunks = 0; }),
            "encode: a layout has experts, parts and chunks of 1 or more and slots of 0 or more, not 2, 1, 0 "
            "and 3");
  if (!device().is_cpu()) return;
  EXPECT_EQ(text([](EncodeArgs& a) { a.x.dtype = DType::kBF16; }),
            "encode: x is bf16; cpu computes in fp32 and fp64");
  EXPECT_EQ(text([](EncodeArgs& a) { a.buffer.device = Device::cuda(1); }),
            "encode: buffer lies on cuda:1, the stream runs on cpu");
}

TEST_P(EncodeBackward, SaysWhatIsWrong) {
  const Tensor dbuffer = real_output({6, 2});
  const Tensor indices = ints({3, 2}, kIndices);
  const Tensor gates = gate_real({3, 2}, kGates);
  Tensor dx = real_output({3, 2});
  EncodeBackwardArgs args = {.dbuffer = dbuffer,
                             .indices = indices,
                             .locations = indices,
                             .capacity = 2,
                             .layout = kLayout,
                             .dx = dx,
                             .dgates = dx};
  EXPECT_EQ(error_text([&] { encode_backward(args, stream()); }),
            "encode_backward: dgates is given, but has no use without gates");
  args.gates = gates;
  args.dgates = {};
  EXPECT_EQ(error_text([&] { encode_backward(args, stream()); }),
            "encode_backward: x is missing, expected (3, 2)");
  args.x = dx;
  EXPECT_EQ(error_text([&] { encode_backward(args, stream()); }),
            "encode_backward: dgates is missing, expected (3, 2)");
}

INSTANTIATE_TEST_SUITE_P(Backends, Encode, ::testing::ValuesIn(all_backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, EncodeGradient, ::testing::ValuesIn(double_backend()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, EncodeBackward, ::testing::ValuesIn(all_backends()), backend_name);

}  // namespace
}  // namespace flex::testing
