#include "kernels/moe/decode.h"
#include "tests/kernels/moe/routing.h"
#include "tests/support/finite_difference.h"
#include "tests/support/kernel_test.h"

namespace flex::testing {
namespace {

class DecodeBackward : public KernelTest {};
class DecodeGradient : public KernelTest {};

// Two experts of 3 slots, of which 2 may be taken. Expert 0 gets tokens 0, 1 and (second choice) 2; expert 1
// gets 2, 0, 1.
const std::vector<double> kBuffer = {1, 2, 3, 4, 99, 99, 5, 6, 7, 8, 99, 99};
const std::vector<double> kIndices = {0, 1, 0, 1, 1, 0};
const std::vector<double> kLocations = {0, 1, 1, 2, 0, 2};
const std::vector<double> kCounts = {3, 3};
const std::vector<double> kGates = {0.5, 0.25, 1, 8, 2, 4};
const SlotLayout kLayout = {.num_experts = 2, .capacity = 3};

TEST_P(DecodeBackward, MatchesHandWorkedExample) {
  const Tensor dy = real({3, 2}, {1, 1, 2, 0, -1, 3});
  const Tensor buffer = real({6, 2}, kBuffer);
  const Tensor indices = ints({3, 2}, kIndices);
  const Tensor locations = ints({3, 2}, kLocations);
  const Tensor counts = ints({2}, kCounts);
  const Tensor gates = gate_real({3, 2}, kGates);
  Tensor dbuffer = real_output({6, 2});
  Tensor dgates = gate_output({3, 2});
  DecodeBackwardArgs args = {.dy = dy,
                             .indices = indices,
                             .locations = locations,
                             .counts = counts,
                             .capacity = 2,
                             .dbuffer_layout = kLayout,
                             .dbuffer = dbuffer};
  decode_backward(args, stream());
  wait();
  EXPECT_EQ(values_of(dbuffer), (std::vector<double>{1, 1, 2, 0, 0, 0, -1, 3, 1, 1, 0, 0}));

  args.buffer = buffer;
  args.buffer_layout = kLayout;
  args.gates = gates;
  args.dgates = dgates;
  decode_backward(args, stream());
  wait();
  EXPECT_EQ(values_of(dbuffer), (std::vector<double>{0.5, 0.5, 2, 0, 0, 0, -2, 6, 0.25, 0.25, 0, 0}));
  EXPECT_EQ(values_of(dgates), (std::vector<double>{3, 15, 6, 0, 13, 0}));
}

// A sum of up to k products for each element.
// The forward plan's layout is the given one, the backward plan's has one part and one chunk.
TEST_P(DecodeBackward, MatchesTheDefinitionForAllShapesAndAcrossLayouts) {
  for (const SlotSizes& s : kSlotSizes) {
    const SlotLayout layout = layout_of(s);
    const SlotSizes backward_sizes = {s.tokens,   s.model_dim, s.experts,         s.top_k,
                                      s.capacity, 1,           s.parts * s.slots, 1};
    const Routing routing = random_routing(s.tokens, s.experts, s.top_k, 1);
    const Tensor dy = random_real({s.tokens, s.model_dim}, 4);
    const Tensor buffer = random_real({layout.num_rows(), s.model_dim}, 2);
    const Tensor gates = random_gate_real({s.tokens, s.top_k}, 3);
    const Tensor indices = ints({s.tokens, s.top_k}, routing.indices);
    const Tensor locations = ints({s.tokens, s.top_k}, routing.locations);
    const Tensor counts = ints({s.experts}, routing.counts);
    Tensor dbuffer = real_output({layout.num_rows(), s.model_dim});
    Tensor dgates = gate_output({s.tokens, s.top_k});
    decode_backward({.dy = dy,
                     .buffer = buffer,
                     .indices = indices,
                     .locations = locations,
                     .counts = counts,
                     .gates = gates,
                     .capacity = s.capacity,
                     .buffer_layout = layout,
                     .dbuffer_layout = layout_of(backward_sizes),
                     .dbuffer = dbuffer,
                     .dgates = dgates},
                    stream());
    wait();

    const std::vector<double> doutputs = values_of(dy);
    const std::vector<double> slots = values_of(buffer);
    const std::vector<double> weights = values_of(gates);
    std::vector<double> expected(layout.num_rows() * s.model_dim, 0.0);
    std::vector<double> expected_dgates(s.tokens * s.top_k, 0.0);
    const std::vector<KeptChoice> read = kept_choices(routing, s);
    const std::vector<KeptChoice> written = kept_choices(routing, backward_sizes);
    for (std::size_t i = 0; i < read.size(); ++i) {
      const std::int64_t place = read[i].token * s.top_k + read[i].choice;
      for (std::int64_t c = 0; c < s.model_dim; ++c) {
        const double gradient = doutputs[read[i].token * s.model_dim + c];
        expected[written[i].row * s.model_dim + c] = weights[place] * gradient;
        expected_dgates[place] += gradient * slots[read[i].row * s.model_dim + c];
      }
    }
    EXPECT_TRUE(close(values_of(dbuffer), expected, product_tolerance(dtype(), 1))) << s.tokens << " tokens";
    EXPECT_TRUE(close(values_of(dgates), expected_dgates, product_tolerance(gate_type(), s.model_dim)))
        << s.tokens << " tokens";
  }
}

TEST_P(DecodeBackward, MayOverwriteTheBufferThatItReads) {
  const SlotSizes s = {33, 37, 7, 3, 11, 2, 7, 4};
  const Routing routing = random_routing(s.tokens, s.experts, s.top_k, 1);
  const Tensor dy = random_real({s.tokens, s.model_dim}, 4);
  Tensor buffer = random_real({layout_of(s).num_rows(), s.model_dim}, 2);
  const Tensor gates = random_gate_real({s.tokens, s.top_k}, 3);
  const Tensor indices = ints({s.tokens, s.top_k}, routing.indices);
  const Tensor locations = ints({s.tokens, s.top_k}, routing.locations);
  const Tensor counts = ints({s.experts}, routing.counts);
  Tensor apart = real_output(buffer.shape());
  Tensor dgates_apart = gate_output({s.tokens, s.top_k});
  Tensor dgates = gate_output({s.tokens, s.top_k});
  DecodeBackwardArgs args = {.dy = dy,
                             .buffer = buffer,
                             .indices = indices,
                             .locations = locations,
                             .counts = counts,
                             .gates = gates,
                             .capacity = s.capacity,
                             .buffer_layout = layout_of(s),
                             .dbuffer_layout = layout_of(s),
                             .dbuffer = apart,
                             .dgates = dgates_apart};
  decode_backward(args, stream());
  args.dbuffer = buffer;
  args.dgates = dgates;
  decode_backward(args, stream());
  wait();
  EXPECT_EQ(values_of(buffer), values_of(apart));
  EXPECT_EQ(values_of(dgates), values_of(dgates_apart));

  args.dbuffer_layout.chunks = 1;
  EXPECT_EQ(
      error_text([&] { decode_backward(args, stream()); }),
      "decode_backward: dbuffer is buffer itself, but their layouts differ (1 and 4 chunks, 2 and 2 parts)");
}

TEST_P(DecodeGradient, MatchesFiniteDifferences) {
  const SlotSizes s = {9, 5, 3, 2, 5, 2, 3, 2};  // drops some of the 6 choices that an expert gets on average
  const Routing routing = random_routing(s.tokens, s.experts, s.top_k, 4);
  Tensor buffer = random_real({18, 5}, 5);
  Tensor gates = random_gate_real({9, 2}, 6);
  const Tensor indices = ints({9, 2}, routing.indices);
  const Tensor locations = ints({9, 2}, routing.locations);
  const Tensor counts = ints({3}, routing.counts);
  const Tensor dy = random_real({9, 5}, 7);
  Tensor y = real_output({9, 5});
  const auto loss = [&] {
    decode({.buffer = buffer,
            .indices = indices,
            .locations = locations,
            .gates = gates,
            .capacity = s.capacity,
            .layout = layout_of(s),
            .y = y},
           stream());
    wait();
    return inner_product(values_of(y), values_of(dy));
  };
  Tensor dbuffer = real_output({18, 5});
  Tensor dgates = gate_output({9, 2});
  decode_backward({.dy = dy,
                   .buffer = buffer,
                   .indices = indices,
                   .locations = locations,
                   .counts = counts,
                   .gates = gates,
                   .capacity = s.capacity,
                   .buffer_layout = layout_of(s),
                   .dbuffer_layout = layout_of(s),
                   .dbuffer = dbuffer,
                   .dgates = dgates},
                  stream());
  wait();
  EXPECT_TRUE(close(values_of(dbuffer), numeric_gradient(buffer, loss), kFiniteDifferenceTolerance));
  EXPECT_TRUE(close(values_of(dgates), numeric_gradient(gates, loss), kFiniteDifferenceTolerance));
}

TEST_P(DecodeBackward, SaysWhatIsWrong) {
  const Tensor dy = real_output({3, 2});
  const Tensor indices = ints({3, 2}, kIndices);
  const Tensor counts = ints({2}, kCounts);
  const Tensor gates = gate_real({3, 2}, kGates);
  Tensor dbuffer = real_output({6, 2});
  DecodeBackwardArgs args = {.dy = dy,
                             .indices = indices,
                             .locations = indices,
                             .counts = counts,
                             .gates = gates,
                             .capacity = 2,
                             .buffer_layout = kLayout,
                             .dbuffer_layout = kLayout,
                             .dbuffer = dbuffer};
  const auto text = [&] { return error_text([&] { decode_backward(args, stream()); }); };
  EXPECT_EQ(text(), "decode_backward: buffer is missing, expected (6, 2)");
  args.buffer_layout.num_experts = 3;
  EXPECT_EQ(text(), "decode_backward: buffer_layout has 3 experts, dbuffer_layout 2");
  args.gates = {};
  args.dgates = dbuffer;
  EXPECT_EQ(text(), "decode_backward: dgates is given, but has no use without gates");
}

INSTANTIATE_TEST_SUITE_P(Backends, DecodeBackward, ::testing::ValuesIn(all_backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, DecodeGradient, ::testing::ValuesIn(double_backend()), backend_name);

}  // namespace
}  // namespace flex::testing
