#include <cmath>

#include "kernels/moe/route.h"
#include "tests/support/finite_difference.h"
#include "tests/support/kernel_test.h"

namespace flex::testing {
namespace {

class RouteBackward : public KernelTest {
 protected:
  std::vector<double> run(Shape shape, const std::vector<double>& scores_values,
                          const std::vector<double>& indices_values, const std::vector<double>& dgates_values,
                          bool normalize_gate) {
    const std::int64_t top_k = shape[0] == 0 ? 1 : std::ssize(indices_values) / shape[0];
    const Tensor scores = gate_real(shape, scores_values);
    const Tensor indices = ints({shape[0], top_k}, indices_values);
    const Tensor dgates = gate_real({shape[0], top_k}, dgates_values);
    Tensor dlogits = gate_output(shape);
    route_backward({.scores = scores,
                    .indices = indices,
                    .dgates = dgates,
                    .normalize_gate = normalize_gate,
                    .dlogits = dlogits},
                   stream());
    wait();
    return values_of(dlogits);
  }
};
class RouteGradient : public RouteBackward {};

// Scores 1/2, 1/4, 1/4 and choices 0, 2 with gradients 3 and 1. Without normalization <s, ds> = 7/4, so that
// dlogit = s (ds - 7/4) = 5/8, -7/16, -3/16. Normalized: gates 2/3 and 1/3, <dgate, gate> = 7/3,
// ds = (3 - 7/3, 1 - 7/3) / (3/4) = 8/9, -16/9, <s, ds> = 0, dlogit = 4/9, 0, -4/9.
TEST_P(RouteBackward, MatchesHandWorkedExample) {
  EXPECT_EQ(run({1, 3}, {0.5, 0.25, 0.25}, {0, 2}, {3, 1}, false),
            (std::vector<double>{0.625, -0.4375, -0.1875}));
  EXPECT_TRUE(close(run({1, 3}, {0.5, 0.25, 0.25}, {0, 2}, {3, 1}, true), {4.0 / 9, 0, -4.0 / 9},
                    8.0 * unit_roundoff(gate_type())));
}

// The second choice was dropped, its gate gradient is zero; its score is still in the sum that divides the
// first one: ds = (3 - 2, 0 - 2) / (3/4) = 4/3, -8/3 and <s, ds> = 0.
TEST_P(RouteBackward, DroppedChoiceTakesPartInTheNormalization) {
  EXPECT_TRUE(close(run({1, 3}, {0.5, 0.25, 0.25}, {0, 2}, {3, 0}, true), {2.0 / 3, 0, -2.0 / 3},
                    8.0 * unit_roundoff(gate_type())));
}

TEST_P(RouteBackward, OneChoiceIsNotNormalized) {
  const std::vector<double> expected = {0.75, -0.375, -0.375};
  EXPECT_EQ(run({1, 3}, {0.5, 0.25, 0.25}, {0}, {3}, true), expected);
  EXPECT_EQ(run({1, 3}, {0.5, 0.25, 0.25}, {0}, {3}, false), expected);
}

// Where the floor binds, the gates are scores over a constant: ds = dgate / epsilon.
TEST_P(RouteBackward, FloorOfTheSumIsAConstant) {
  const double floor = gate_sum_floor(gate_type());
  const double small = floor / 8;
  const double large = floor / 4;
  const double dot = small * 1.0 / floor + large * 3.0 / floor;
  const std::vector<double> expected = {-1.0 * dot, small * (1.0 / floor - dot), large * (3.0 / floor - dot)};
  EXPECT_TRUE(close(run({1, 3}, {1.0, small, large}, {1, 2}, {1, 3}, true), expected,
                    8.0 * unit_roundoff(gate_type())));
}

TEST_P(RouteBackward, NoTokensAndOneExpert) {
  EXPECT_TRUE(run({0, 3}, {}, {}, {}, true).empty());
  EXPECT_EQ(run({2, 1}, {1, 1}, {0, 0}, {3, -1}, true),
            (std::vector<double>{0, 0}));  // softmax of one is constant
}

TEST_P(RouteBackward, SaysWhatIsWrong) {
  Tensor scores = gate_output({3, 2});
  const Tensor indices = int_output({3, 2});
  RouteBackwardArgs args = {.scores = scores, .indices = indices, .dgates = scores, .dlogits = scores};
  args.dgates.shape = {3, 1};
  EXPECT_EQ(error_text([&] { route_backward(args, stream()); }),
            "route_backward: dgates is (3, 1), expected (3, 2)");
  const Tensor four = int_output({3, 4});
  args.indices = four;
  EXPECT_EQ(error_text([&] { route_backward(args, stream()); }),
            "route_backward: top-k is 4, expected 1 to the 2 experts");
}

// Through route() itself; some gates have no gradient, as if their choices were dropped. The choices do not
// change within the step: logits are random to 53 bits and lie much further apart.
TEST_P(RouteGradient, MatchesFiniteDifferences) {
  struct Sizes {
    std::int64_t tokens, experts, top_k;
  };
  for (const Sizes s : {Sizes{5, 4, 1}, {6, 5, 2}, {3, 4, 4}, {4, 9, 3}}) {
    for (const bool normalize : {false, true}) {
      Tensor logits = random_gate_real({s.tokens, s.experts}, 11);
      std::vector<double> dgates = random_uniform(s.tokens * s.top_k, 12);
      for (std::size_t i = 0; i < dgates.size(); i += 3) dgates[i] = 0.0;
      Tensor scores = gate_output({s.tokens, s.experts});
      Tensor indices = int_output({s.tokens, s.top_k});
      Tensor gates = gate_output({s.tokens, s.top_k});
      Tensor locations = int_output({s.tokens, s.top_k});
      Tensor counts = int_output({s.experts});
      Tensor needed = int_output({1});
      Tensor workspace = bytes(route_workspace_bytes(s.tokens, s.experts, s.top_k, gate_type(), device()));
      const auto loss = [&] {
        route({.logits = logits,
               .normalize_gate = normalize,
               .scores = scores,
               .indices = indices,
               .gates = gates,
               .locations = locations,
               .counts = counts,
               .needed_capacity = needed,
               .workspace = workspace},
              stream());
        wait();
        return inner_product(values_of(gates), dgates);
      };
      const std::vector<double> expected = numeric_gradient(logits, loss);
      (void)loss();
      const std::vector<double> actual =
          run({s.tokens, s.experts}, values_of(scores), values_of(indices), dgates, normalize);
      EXPECT_TRUE(close(actual, expected, kFiniteDifferenceTolerance))
          << s.experts << " experts, " << s.top_k << " choices, normalize " << normalize;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, RouteBackward, ::testing::ValuesIn(gate_backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, RouteGradient, ::testing::ValuesIn(double_backend()), backend_name);

}  // namespace
}  // namespace flex::testing
