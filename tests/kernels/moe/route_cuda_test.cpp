#include <gmock/gmock.h>

#include <algorithm>
#include <numeric>

#include "kernels/moe/noise.h"
#include "kernels/moe/route.h"
#include "tests/kernels/moe/cuda_parity.h"
#include "tests/kernels/moe/routing.h"

// Routing, its gradient and the noise at the sizes of real layers.
namespace flex::testing {
namespace {

struct Sizes {
  std::int64_t tokens, experts, top_k;
};

// One for each way in which lanes share a token, and both sides of its limits.
const std::vector<Sizes> kSizes = {
    {1, 1, 1},     {5, 2, 2},     {255, 3, 1},    {256, 4, 2},   {257, 8, 8},    {513, 9, 2},   {1000, 16, 3},
    {700, 30, 2},  {4096, 32, 2}, {300, 33, 4},   {2000, 64, 2}, {500, 100, 33}, {777, 128, 2}, {900, 256, 8},
    {123, 257, 2}, {400, 512, 4}, {150, 513, 40}, {90, 1100, 3}, {65536, 64, 2}, {65537, 32, 1}};

/// Outputs of one route(), read back.
struct Routed {
  std::vector<double> scores, indices, gates, locations, counts, needed;
  friend bool operator==(const Routed&, const Routed&) = default;
};

Routed run_route(Side& side, const Sizes& s, const std::vector<double>& logits_values, bool prioritized) {
  const Tensor logits = side.gate({s.tokens, s.experts}, logits_values);
  Tensor scores = side.gate_output({s.tokens, s.experts});
  Tensor indices = side.int_output({s.tokens, s.top_k});
  Tensor gates = side.gate_output({s.tokens, s.top_k});
  Tensor locations = side.int_output({s.tokens, s.top_k});
  Tensor counts = side.int_output({s.experts});
  Tensor needed = side.int_output({1});
  Tensor workspace =
      side.bytes(route_workspace_bytes(s.tokens, s.experts, s.top_k, side.gate_type(), side.device()));
  const RouteArgs args = {.logits = logits,
                          .batch_prioritized = prioritized,
                          .scores = scores,
                          .indices = indices,
                          .gates = gates,
                          .locations = locations,
                          .counts = counts,
                          .needed_capacity = needed,
                          .workspace = workspace};
  route(args, side.stream());
  check_routed_blocking(args, side.stream());
  return {values_of(scores),    values_of(indices), values_of(gates),
          values_of(locations), values_of(counts),  values_of(needed)};
}

class RouteCuda : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override { FLEX_SKIP_WITHOUT_CUDA(); }
};

// The double twin's scores decide which choices were allowed: the GPU may take another expert only where the
// scores are closer than this.
constexpr double kTie = 1e-5;

// Scores are a quotient of exp, right to two units, and a sum of E of them.
double score_tolerance(std::int64_t experts) {
  return (16.0 + std::sqrt(static_cast<double>(experts))) * unit_roundoff(DType::kF32);
}

void expect_allowed_choices(const Routed& actual, const Routed& expected, const Sizes& s) {
  std::int64_t differing = 0;
  for (std::int64_t token = 0; token < s.tokens; ++token) {
    const double* scores = &expected.scores[token * s.experts];
    std::vector<bool> taken(s.experts, false);
    for (std::int64_t j = 0; j < s.top_k; ++j) {
      const auto mine = static_cast<std::int64_t>(actual.indices[token * s.top_k + j]);
      const auto theirs = static_cast<std::int64_t>(expected.indices[token * s.top_k + j]);
      ASSERT_TRUE(mine >= 0 && mine < s.experts) << "token " << token;
      ASSERT_FALSE(taken[mine]) << "token " << token << " takes expert " << mine << " twice";
      taken[mine] = true;
      if (mine == theirs) continue;
      ++differing;
      ASSERT_NEAR(scores[mine], scores[theirs], kTie) << "token " << token << ", choice " << j;
    }
  }
  // Scores of random logits that fp32 cannot tell apart are rare.
  EXPECT_LE(differing, 2 + s.tokens * s.top_k / 1000);
}

// What the GPU says of places must hold for its own choices: counted in the order of choices, then tokens (by
// descending best score, then index, where prioritized).
void expect_own_places(const Routed& actual, const Sizes& s, bool prioritized) {
  std::vector<std::int64_t> order(s.tokens);
  std::iota(order.begin(), order.end(), 0);
  if (prioritized) {
    std::vector<double> best(s.tokens);
    for (std::int64_t token = 0; token < s.tokens; ++token) {
      const auto first = static_cast<std::int64_t>(actual.indices[token * s.top_k]);
      best[token] = actual.scores[token * s.experts + first];
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](std::int64_t a, std::int64_t b) { return best[a] > best[b]; });
  }
  std::vector<double> counts(s.experts, 0.0);
  std::vector<double> locations(s.tokens * s.top_k);
  for (std::int64_t j = 0; j < s.top_k; ++j) {
    for (const std::int64_t token : order) {
      const auto expert = static_cast<std::int64_t>(actual.indices[token * s.top_k + j]);
      locations[token * s.top_k + j] = counts[expert]++;
    }
  }
  EXPECT_EQ(actual.locations, locations);
  EXPECT_EQ(actual.counts, counts);
  EXPECT_EQ(actual.needed[0], *std::max_element(counts.begin(), counts.end()));
}

// Gates from the twin's scores of the GPU's choices.
std::vector<double> gates_of(const Routed& actual, const Routed& expected, const Sizes& s) {
  std::vector<double> gates(s.tokens * s.top_k);
  for (std::int64_t token = 0; token < s.tokens; ++token) {
    double sum = 0.0;
    for (std::int64_t j = token * s.top_k; j < (token + 1) * s.top_k; ++j) {
      gates[j] = expected.scores[token * s.experts + static_cast<std::int64_t>(actual.indices[j])];
      sum += gates[j];
    }
    if (s.top_k == 1) continue;
    for (std::int64_t j = token * s.top_k; j < (token + 1) * s.top_k; ++j) gates[j] /= sum;
  }
  return gates;
}

TEST_P(RouteCuda, EqualsItsTwin) {
  for (const Sizes& s : kSizes) {
    SCOPED_TRACE(to_string(Shape{s.tokens, s.experts, s.top_k}));
    const std::vector<double> logits = random_exact(s.tokens * s.experts, 7, DType::kF32, -4.0, 4.0);
    Side gpu(Device::cuda(0), DType::kF32);
    Side twin = Side::twin();
    const Routed actual = run_route(gpu, s, logits, GetParam());
    const Routed expected = run_route(twin, s, logits, GetParam());
    EXPECT_TRUE(close(actual.scores, expected.scores, score_tolerance(s.experts)));
    expect_allowed_choices(actual, expected, s);
    if (HasFatalFailure()) return;
    EXPECT_TRUE(
        close(actual.gates, gates_of(actual, expected, s),
              2.0 * score_tolerance(s.experts) + static_cast<double>(s.top_k) * unit_roundoff(DType::kF32)));
    expect_own_places(actual, s, GetParam());
    EXPECT_TRUE(actual == run_route(gpu, s, logits, GetParam())) << "differs on repeat";
  }
}

// Scores that are often equal, and all tokens at one expert.
TEST_P(RouteCuda, TiesGoToTheLowerExpertAndToken) {
  for (const Sizes& s : {Sizes{3000, 8, 2}, {3000, 40, 3}, {1000, 600, 2}}) {
    SCOPED_TRACE(to_string(Shape{s.tokens, s.experts, s.top_k}));
    std::vector<double> logits = random_uniform(s.tokens * s.experts, 8);
    for (double& logit : logits) logit = std::floor(logit * 2.0);
    for (std::int64_t token = 0; token < s.tokens; token += 3) {  // every third wants expert 1
      for (std::int64_t e = 0; e < s.experts; ++e) logits[token * s.experts + e] = e == 1 ? 5.0 : 0.0;
    }
    Side gpu(Device::cuda(0), DType::kF32);
    const Routed actual = run_route(gpu, s, logits, GetParam());
    for (std::int64_t token = 0; token < s.tokens; ++token) {
      const double* scores = &actual.scores[token * s.experts];
      std::vector<std::int64_t> experts(s.experts);
      std::iota(experts.begin(), experts.end(), 0);
      std::stable_sort(experts.begin(), experts.end(),
                       [&](std::int64_t a, std::int64_t b) { return scores[a] > scores[b]; });
      for (std::int64_t j = 0; j < s.top_k; ++j) {
        ASSERT_EQ(actual.indices[token * s.top_k + j], static_cast<double>(experts[j])) << "token " << token;
      }
    }
    expect_own_places(actual, s, GetParam());
  }
}

// Nothing throws on the GPU: the call is marked, and every choice stays within bounds.
TEST_P(RouteCuda, LogitsThatAreNotFiniteAreNamedAndHarmless) {
  for (const Sizes& s : {Sizes{600, 8, 2}, {600, 37, 3}, {600, 700, 2}}) {
    for (const double bad : {std::nan(""), static_cast<double>(INFINITY), static_cast<double>(-INFINITY)}) {
      SCOPED_TRACE(to_string(Shape{s.tokens, s.experts, s.top_k}) + " " + std::to_string(bad));
      std::vector<double> values = random_uniform(s.tokens * s.experts, 9);
      for (std::int64_t i = 0; i < s.experts; ++i) values[517 * s.experts + i] = bad;  // a whole token
      values[301 * s.experts + 5] = bad;
      Side gpu(Device::cuda(0), DType::kF32);
      Tensor logits = gpu.gate({s.tokens, s.experts}, values);
      Tensor scores = gpu.gate_output({s.tokens, s.experts});
      Tensor indices = gpu.int_output({s.tokens, s.top_k});
      Tensor gates = gpu.gate_output({s.tokens, s.top_k});
      Tensor locations = gpu.int_output({s.tokens, s.top_k});
      Tensor counts = gpu.int_output({s.experts});
      Tensor needed = gpu.int_output({1});
      Tensor workspace =
          gpu.bytes(route_workspace_bytes(s.tokens, s.experts, s.top_k, DType::kF32, gpu.device()));
      const RouteArgs args = {.logits = logits,
                              .batch_prioritized = GetParam(),
                              .scores = scores,
                              .indices = indices,
                              .gates = gates,
                              .locations = locations,
                              .counts = counts,
                              .needed_capacity = needed,
                              .workspace = workspace};
      route(args, gpu.stream());
      gpu.stream().synchronize_blocking();
      EXPECT_EQ(values_of(needed)[0], kRouteNotFinite);
      EXPECT_THAT(error_text([&] { check_routed_blocking(args, gpu.stream()); }),
                  ::testing::StartsWith("route: the logit of token 301 for expert 5 is "));
      const std::vector<double> chosen = values_of(indices);
      const std::vector<double> places = values_of(locations);
      for (std::int64_t i = 0; i < s.tokens * s.top_k; ++i) {
        ASSERT_TRUE(chosen[i] >= 0 && chosen[i] < static_cast<double>(s.experts)) << i;
        ASSERT_TRUE(places[i] >= 0 && places[i] < static_cast<double>(s.tokens * s.top_k)) << i;
      }
      // A good call after a bad one is good again.
      assign(logits, random_uniform(s.tokens * s.experts, 9));
      route(args, gpu.stream());
      check_routed_blocking(args, gpu.stream());
      EXPECT_GE(values_of(needed)[0], 1.0);
    }
  }
}

std::string order_name(const ::testing::TestParamInfo<bool>& prioritized) {
  return prioritized.param ? "prioritized" : "in_order";
}
INSTANTIATE_TEST_SUITE_P(Orders, RouteCuda, ::testing::Bool(), order_name);

TEST(RouteBackwardCuda, EqualsItsTwin) {
  FLEX_SKIP_WITHOUT_CUDA();
  for (const Sizes& s : kSizes) {
    SCOPED_TRACE(to_string(Shape{s.tokens, s.experts, s.top_k}));
    const Routing routing = random_routing(s.tokens, s.experts, s.top_k, 1);
    // Scores of a softmax; the kernel need not know that they are the best ones.
    std::vector<double> scores = random_uniform(s.tokens * s.experts, 2, 0.5, 1.5);
    for (double& score : scores) score /= static_cast<double>(s.experts);
    scores = values_of(make_tensor({s.tokens * s.experts}, scores, DType::kF32));
    const std::vector<double> dgates = random_exact(s.tokens * s.top_k, 3, DType::kF32);
    for (const bool normalize : {false, true}) {
      expect_parity(DType::kF32, [&](Side& side) -> Outputs {
        const Tensor score_tensor = side.gate({s.tokens, s.experts}, scores);
        const Tensor indices = side.ints({s.tokens, s.top_k}, routing.indices);
        const Tensor dgate_tensor = side.gate({s.tokens, s.top_k}, dgates);
        Tensor dlogits = side.gate_output({s.tokens, s.experts});
        route_backward({.scores = score_tensor,
                        .indices = indices,
                        .dgates = dgate_tensor,
                        .normalize_gate = normalize,
                        .dlogits = dlogits},
                       side.stream());
        side.stream().synchronize_blocking();
        // Four sums of at most k terms after each other.
        return {{"dlogits", values_of(dlogits), 4.0 * product_tolerance(DType::kF32, s.top_k)}};
      });
    }
  }
}

TEST(GateNoiseCuda, EqualsItsTwin) {
  FLEX_SKIP_WITHOUT_CUDA();
  for (const Sizes& s : {Sizes{1, 1, 1}, {33, 7, 1}, {4096, 64, 1}}) {
    const std::vector<double> values = random_exact(s.tokens * s.experts, 1, DType::kF32);
    expect_parity(DType::kF32, [&](Side& side) -> Outputs {
      const Tensor logits = side.gate({s.tokens, s.experts}, values);
      Tensor noisy = side.gate_output(logits.shape());
      // A global token index and an iteration beyond 32 bits.
      add_gate_noise({.logits = logits,
                      .noisy = noisy,
                      .stddev = 0.3,
                      .seed = 0x123456789ABCDEFU,
                      .iteration = (std::uint64_t{1} << 40) + 5,
                      .layer = 3,
                      .first_token = (std::int64_t{1} << 33) + 1},
                     side.stream());
      side.stream().synchronize_blocking();
      // The same double, but for the last bits of log, sqrt and cos, rounded to fp32.
      return {{"noisy", values_of(noisy), 2.0 * unit_roundoff(DType::kF32)}};
    });
  }
}

}  // namespace
}  // namespace flex::testing
