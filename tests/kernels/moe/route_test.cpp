#include "kernels/moe/route.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tests/support/kernel_test.h"

namespace flex::testing {
namespace {

/// Outputs of one route(), read back.
struct Routed {
  std::vector<double> scores, indices, gates, locations, counts, needed;
};

class Route : public KernelTest {
 protected:
  Routed run(Shape shape, const std::vector<double>& logits_values, std::int64_t top_k,
             bool normalize_gate = true, bool batch_prioritized = false) {
    const std::int64_t tokens = shape[0];
    const std::int64_t experts = shape[1];
    const Tensor logits = gate_real(shape, logits_values);
    Tensor scores = gate_output(shape);
    Tensor indices = int_output({tokens, top_k});
    Tensor gates = gate_output({tokens, top_k});
    Tensor locations = int_output({tokens, top_k});
    Tensor counts = int_output({experts});
    Tensor needed = int_output({1});
    Tensor workspace = bytes(route_workspace_bytes(tokens, experts, top_k, gate_type(), device()));
    const RouteArgs args = {.logits = logits,
                            .normalize_gate = normalize_gate,
                            .batch_prioritized = batch_prioritized,
                            .scores = scores,
                            .indices = indices,
                            .gates = gates,
                            .locations = locations,
                            .counts = counts,
                            .needed_capacity = needed,
                            .workspace = workspace};
    route(args, stream());
    check_routed_blocking(args, stream());
    return {values_of(scores),    values_of(indices), values_of(gates),
            values_of(locations), values_of(counts),  values_of(needed)};
  }

  /// A few operations on numbers of at most 1, exp correct to two units.
  [[nodiscard]] double tolerance() const { return 8.0 * unit_roundoff(gate_type()); }
};

// Logits are logs of small integers, so that the scores are fractions: 1/8, 5/8, 2/8; 4/8, 3/8, 1/8; 1/4,
// 2/4, 1/4.
const std::vector<double> kLogits = {std::log(1), std::log(5), std::log(2), std::log(4), std::log(3),
                                     std::log(1), std::log(1), std::log(2), std::log(1)};

TEST_P(Route, MatchesHandWorkedExample) {
  const Routed routed = run({3, 3}, kLogits, 2);
  EXPECT_TRUE(close(routed.scores, {0.125, 0.625, 0.25, 0.5, 0.375, 0.125, 0.25, 0.5, 0.25}, tolerance()));
  // Token 2 has a tie for its second choice: the lower expert.
  EXPECT_EQ(routed.indices, (std::vector<double>{1, 2, 0, 1, 1, 0}));
  EXPECT_TRUE(close(routed.gates, {5.0 / 7, 2.0 / 7, 4.0 / 7, 3.0 / 7, 2.0 / 3, 1.0 / 3}, tolerance()));
  // Expert 1 is the first choice of tokens 0 and 2, then the second of token 1.
  EXPECT_EQ(routed.locations, (std::vector<double>{0, 0, 0, 2, 1, 1}));
  EXPECT_EQ(routed.counts, (std::vector<double>{2, 3, 1}));
  EXPECT_EQ(routed.needed, (std::vector<double>{3}));
}

TEST_P(Route, WithoutNormalizationGatesAreScores) {
  EXPECT_TRUE(close(run({3, 3}, kLogits, 2, false).gates, {0.625, 0.25, 0.5, 0.375, 0.5, 0.25}, tolerance()));
}

TEST_P(Route, OneChoiceIsNotNormalized) {
  const Routed routed = run({3, 3}, kLogits, 1, true);
  EXPECT_EQ(routed.indices, (std::vector<double>{1, 0, 1}));
  EXPECT_TRUE(close(routed.gates, {0.625, 0.5, 0.5}, tolerance()));
}

TEST_P(Route, TiesGoToTheLowerExpert) {
  const Routed routed = run({2, 5}, std::vector<double>(10, 0.25), 3);
  EXPECT_EQ(routed.indices, (std::vector<double>{0, 1, 2, 0, 1, 2}));
  EXPECT_EQ(routed.locations, (std::vector<double>{0, 0, 0, 1, 1, 1}));
  EXPECT_EQ(routed.counts, (std::vector<double>{2, 2, 2, 0, 0}));
}

// Best scores of tokens 0 to 3: 3/5, 4/5, 3/5 and 4/5. Order: 1, 3, 0, 2, for the second choice as well.
TEST_P(Route, BatchPrioritizedTakesSlotsByDescendingBestScore) {
  const std::vector<double> logits = {std::log(3), std::log(2), std::log(4), std::log(1),
                                      std::log(3), std::log(2), std::log(1), std::log(4)};
  const Routed routed = run({4, 2}, logits, 2, true, true);
  EXPECT_EQ(routed.indices, (std::vector<double>{0, 1, 0, 1, 0, 1, 1, 0}));
  EXPECT_EQ(routed.locations, (std::vector<double>{1, 2, 0, 1, 2, 3, 0, 3}));
  EXPECT_EQ(routed.counts, (std::vector<double>{4, 4}));
}

// The count comes from the histogram: under batch-prioritized routing the last token's location says nothing
// of it.
TEST_P(Route, DroplessUnderBatchPrioritizedRoutingDropsNothing) {
  const std::vector<double> logits = {3, 0, 2, 0, 1, 0};  // all want expert 0, the first token most
  const Routed routed = run({3, 2}, logits, 1, true, true);
  EXPECT_EQ(routed.locations, (std::vector<double>{0, 1, 2}));
  EXPECT_EQ(routed.needed, (std::vector<double>{3}));
  const std::vector<double> reversed = {1, 0, 2, 0, 3, 0};
  const Routed other = run({3, 2}, reversed, 1, true, true);
  EXPECT_EQ(other.locations, (std::vector<double>{2, 1, 0}));
  EXPECT_EQ(other.needed, (std::vector<double>{3}));
}

TEST_P(Route, LargeLogitsDoNotOverflow) {
  const Routed routed = run({1, 3}, {1e30, 1e30, -1e30}, 2);
  EXPECT_TRUE(close(routed.scores, {0.5, 0.5, 0}, tolerance()));
}

TEST_P(Route, NoTokensGiveNoCounts) {
  const Routed routed = run({0, 4}, {}, 2);
  EXPECT_EQ(routed.counts, (std::vector<double>{0, 0, 0, 0}));
  EXPECT_EQ(routed.needed, (std::vector<double>{0}));
}

TEST_P(Route, OneExpertTakesAll) {
  const Routed routed = run({3, 1}, {5, -2, 0}, 1);
  EXPECT_EQ(routed.scores, (std::vector<double>{1, 1, 1}));
  EXPECT_EQ(routed.gates, (std::vector<double>{1, 1, 1}));
  EXPECT_EQ(routed.locations, (std::vector<double>{0, 1, 2}));
  EXPECT_EQ(routed.needed, (std::vector<double>{3}));
}

// The definition, by sorting: what route() says of itself must hold for its own scores.
TEST_P(Route, MatchesTheDefinitionForAllShapes) {
  struct Sizes {
    std::int64_t tokens, experts, top_k;
  };
  for (const Sizes s : {Sizes{1, 1, 1}, {1, 7, 7}, {37, 5, 3}, {257, 33, 4}, {1000, 64, 2}, {300, 130, 8}}) {
    for (const bool prioritized : {false, true}) {
      // Few distinct values, so that ties are frequent.
      std::vector<double> logits = random_uniform(s.tokens * s.experts, 1);
      for (double& logit : logits) logit = std::floor(logit * 16.0) / 8.0;
      const Routed routed = run({s.tokens, s.experts}, logits, s.top_k, true, prioritized);

      std::vector<double> indices(s.tokens * s.top_k);
      std::vector<double> gates(s.tokens * s.top_k);
      std::vector<std::int64_t> tokens(s.tokens);
      std::iota(tokens.begin(), tokens.end(), 0);
      std::vector<double> best(s.tokens);
      for (std::int64_t token = 0; token < s.tokens; ++token) {
        const double* scores = &routed.scores[token * s.experts];
        std::vector<std::int64_t> experts(s.experts);
        std::iota(experts.begin(), experts.end(), 0);
        std::stable_sort(experts.begin(), experts.end(),
                         [&](std::int64_t a, std::int64_t b) { return scores[a] > scores[b]; });
        best[token] = scores[experts[0]];
        double sum = 0.0;
        for (std::int64_t j = 0; j < s.top_k; ++j) sum += scores[experts[j]];
        for (std::int64_t j = 0; j < s.top_k; ++j) {
          indices[token * s.top_k + j] = static_cast<double>(experts[j]);
          gates[token * s.top_k + j] = s.top_k == 1 ? scores[experts[j]] : scores[experts[j]] / sum;
        }
      }
      if (prioritized) {
        std::stable_sort(tokens.begin(), tokens.end(),
                         [&](std::int64_t a, std::int64_t b) { return best[a] > best[b]; });
      }
      std::vector<double> counts(s.experts, 0.0);
      std::vector<double> locations(s.tokens * s.top_k);
      for (std::int64_t j = 0; j < s.top_k; ++j) {
        for (const std::int64_t token : tokens) {
          const auto expert = static_cast<std::int64_t>(indices[token * s.top_k + j]);
          locations[token * s.top_k + j] = counts[expert]++;
        }
      }
      EXPECT_EQ(routed.indices, indices) << s.experts << " experts";
      EXPECT_TRUE(
          close(routed.gates, gates, (8.0 + static_cast<double>(s.top_k)) * unit_roundoff(gate_type())));
      EXPECT_EQ(routed.locations, locations) << s.experts << " experts, prioritized " << prioritized;
      EXPECT_EQ(routed.counts, counts);
      EXPECT_EQ(routed.needed[0], *std::max_element(counts.begin(), counts.end()));
    }
  }
}

TEST_P(Route, NamesTokenAndExpertOfALogitThatIsNotFinite) {
  std::vector<double> logits(12, 0.0);
  logits[7] = std::nan("");
  EXPECT_EQ(error_text([&] {
              (void)run({3, 4}, logits, 2);
            }),
            "route: the logit of token 1 for expert 3 is nan, expected a finite number");
  logits[7] = -std::numeric_limits<double>::infinity();
  EXPECT_EQ(error_text([&] {
              (void)run({3, 4}, logits, 2);
            }),
            "route: the logit of token 1 for expert 3 is -inf, expected a finite number");
}

TEST_P(Route, SaysWhatIsWrong) {
  Tensor logits = gate_output({3, 2});
  Tensor choices = int_output({3, 2});
  Tensor counts = int_output({2});
  Tensor needed = int_output({1});
  Tensor workspace = bytes(route_workspace_bytes(3, 2, 2, gate_type(), device()));
  Tensor three = int_output({3, 3});
  Tensor none = int_output({3, 0});
  const RouteArgs good = {.logits = logits,
                          .scores = logits,
                          .indices = choices,
                          .gates = logits,
                          .locations = choices,
                          .counts = counts,
                          .needed_capacity = needed,
                          .workspace = workspace};
  const auto text = [&](auto change) {
    RouteArgs args = good;
    change(args);
    return error_text([&] { route(args, stream()); });
  };
  EXPECT_EQ(text([&](RouteArgs& a) { a.indices = three; }), "route: top-k is 3, expected 1 to the 2 experts");
  EXPECT_EQ(text([&](RouteArgs& a) { a.indices = none; }), "route: top-k is 0, expected 1 to the 2 experts");
  EXPECT_EQ(text([](RouteArgs& a) { a.scores.shape = {3, 3}; }), "route: scores is (3, 3), expected (3, 2)");
  EXPECT_EQ(text([](RouteArgs& a) { a.needed_capacity = {}; }),
            "route: needed_capacity is missing, expected (1)");
  EXPECT_EQ(text([](RouteArgs& a) { a.counts.dtype = DType::kI64; }), "route: counts is i64, expected i32");
  EXPECT_EQ(text([](RouteArgs& a) { a.workspace = {}; }), "route: workspace is missing, expected (0)");
  if (!device().is_cpu()) return;
  EXPECT_EQ(text([](RouteArgs& a) { a.workspace.shape = {11}; }),
            "route: workspace has 11 bytes, expected at least 12");
  EXPECT_EQ(text([](RouteArgs& a) { a.logits.dtype = DType::kF16; }),
            "route: logits is fp16; on cpu the gate computes in fp32 and fp64");
}

INSTANTIATE_TEST_SUITE_P(Backends, Route, ::testing::ValuesIn(gate_backends()), backend_name);

}  // namespace
}  // namespace flex::testing
