#include "kernels/moe/decode.h"

#include "tests/kernels/moe/routing.h"
#include "tests/support/kernel_test.h"

namespace flex::testing {
namespace {

class Decode : public KernelTest {};

// Two experts of 3 slots, of which 2 may be taken. Expert 0 gets tokens 0, 1 and (second choice) 2; expert 1
// gets 2, 0, 1.
const std::vector<double> kBuffer = {1, 2, 3, 4, 99, 99, 5, 6, 7, 8, 99, 99};
const std::vector<double> kIndices = {0, 1, 0, 1, 1, 0};
const std::vector<double> kLocations = {0, 1, 1, 2, 0, 2};
const std::vector<double> kGates = {0.5, 0.25, 1, 8, 2, 4};
const SlotLayout kLayout = {.num_experts = 2, .capacity = 3};

TEST_P(Decode, MatchesHandWorkedExample) {
  const Tensor buffer = real({6, 2}, kBuffer);
  const Tensor indices = ints({3, 2}, kIndices);
  const Tensor locations = ints({3, 2}, kLocations);
  Tensor y = real_output({3, 2});
  DecodeArgs args = {
      .buffer = buffer, .indices = indices, .locations = locations, .capacity = 2, .layout = kLayout, .y = y};
  decode(args, stream());
  wait();
  EXPECT_EQ(values_of(y), (std::vector<double>{8, 10, 3, 4, 5, 6}));

  const Tensor gates = gate_real({3, 2}, kGates);
  args.gates = gates;
  decode(args, stream());
  wait();
  EXPECT_EQ(values_of(y), (std::vector<double>{2.25, 3, 3, 4, 10, 12}));

  args.capacity = 1;  // token 1 loses both choices
  decode(args, stream());
  wait();
  EXPECT_EQ(values_of(y), (std::vector<double>{0.5, 1, 0, 0, 10, 12}));
}

TEST_P(Decode, MatchesTheDefinitionForAllShapes) {
  for (const SlotSizes& s : kSlotSizes) {
    const SlotLayout layout = layout_of(s);
    const Routing routing = random_routing(s.tokens, s.experts, s.top_k, 1);
    const Tensor buffer = random_real({layout.num_rows(), s.model_dim}, 2);
    const Tensor gates = random_gate_real({s.tokens, s.top_k}, 3);
    const Tensor indices = ints({s.tokens, s.top_k}, routing.indices);
    const Tensor locations = ints({s.tokens, s.top_k}, routing.locations);
    Tensor y = real_output({s.tokens, s.model_dim});
    decode({.buffer = buffer,
            .indices = indices,
            .locations = locations,
            .gates = gates,
            .capacity = s.capacity,
            .layout = layout,
            .y = y},
           stream());
    wait();

    const std::vector<double> slots = values_of(buffer);
    const std::vector<double> weights = values_of(gates);
    std::vector<double> expected(s.tokens * s.model_dim, 0.0);
    for (const KeptChoice& kept : kept_choices(routing, s)) {
      for (std::int64_t c = 0; c < s.model_dim; ++c) {
        expected[kept.token * s.model_dim + c] +=
            weights[kept.token * s.top_k + kept.choice] * slots[kept.row * s.model_dim + c];
      }
    }
    EXPECT_TRUE(close(values_of(y), expected, product_tolerance(dtype(), s.top_k))) << s.tokens << " tokens";
  }
}

TEST_P(Decode, SaysWhatIsWrong) {
  const Tensor buffer = real({6, 2}, kBuffer);
  const Tensor indices = ints({3, 2}, kIndices);
  Tensor y = real_output({3, 2});
  const DecodeArgs good = {
      .buffer = buffer, .indices = indices, .locations = indices, .capacity = 2, .layout = kLayout, .y = y};
  const auto text = [&](auto change) {
    DecodeArgs args = good;
    change(args);
    return error_text([&] { decode(args, stream()); });
  };
  EXPECT_EQ(text([](DecodeArgs& a) { a.y = {}; }), "decode: y is missing, expected (0, 0)");
  EXPECT_EQ(text([](DecodeArgs& a) {
              a.buffer.shape = {6, 3};
            }),
            "decode: buffer is (6, 3), expected (6, 2)");
  EXPECT_EQ(text([](DecodeArgs& a) { a.gates = a.indices; }),
            "decode: gates is i32, expected " + std::string(name(gate_type())));
  EXPECT_EQ(text([](DecodeArgs& a) { a.layout.num_experts = 0; }),
            "decode: a layout has experts, parts and chunks of 1 or more and slots of 0 or more, not 0, 1, 1 "
            "and 3");
}

INSTANTIATE_TEST_SUITE_P(Backends, Decode, ::testing::ValuesIn(all_backends()), backend_name);

}  // namespace
}  // namespace flex::testing
