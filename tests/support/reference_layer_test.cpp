#include "tests/support/reference_layer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"

namespace flex::testing {
namespace {

/// Logits are the tokens themselves; both experts pass the positive part of x[0] to y[0], expert 1 doubled.
struct TwoExperts {
  ReferenceConfig config = {.model_dim = 2,
                            .hidden_dim = 1,
                            .num_experts = 2,
                            .activation = ReferenceActivation::kRelu,
                            .loss = ReferenceLoss::kNone};
  ReferenceParameters parameters = {.gate_weight = {1, 0, 0, 1},
                                    .fc1_w = {1, 0, 1, 0},
                                    .fc1_bias = {0, 0},
                                    .fc2_w = {1, 0, 2, 0},
                                    .fc2_bias = {0, 0, 0, 0.5}};
};

ReferenceTokens make_tokens(std::vector<double> x) {
  std::vector<double> dy(x.size(), 1.0);
  return {.x = std::move(x), .dy = std::move(dy)};
}

double softmax_of_two(double chosen, double other) { return 1.0 / (1.0 + std::exp(other - chosen)); }

TEST(ReferenceLayer, MatchesHandWorkedExample) {
  const TwoExperts layer;
  // Token 0 ties and takes the lower expert; token 2 is the third at expert 0, which has 1 * floor(1 * 4/2)
  // slots.
  const auto tokens = make_tokens({1, 1, 2, 0, 3, 0, 1, 2});
  const auto result =
      reference_layer(layer.config, layer.parameters, {.top_k = 1, .aux_weight = 1}, {tokens});

  EXPECT_EQ(result.capacity, 2);
  const ReferenceRank& rank = result.ranks[0];
  EXPECT_EQ(rank.indices, (std::vector<std::int32_t>{0, 0, 0, 1}));
  EXPECT_EQ(rank.locations, (std::vector<std::int32_t>{0, 1, 2, 0}));
  EXPECT_EQ(rank.expert_counts, (std::vector<std::int32_t>{3, 1}));
  EXPECT_EQ(rank.num_dropped, 1);
  EXPECT_EQ(result.l_aux, std::vector<double>{0.0});
  const double last_gate = softmax_of_two(2, 1);
  const std::vector<double> y = {0.5, 0, 2 * softmax_of_two(2, 0), 0, 0, 0, 2 * last_gate, 0.5 * last_gate};
  for (std::size_t i = 0; i < y.size(); ++i) EXPECT_NEAR(rank.y[i], y[i], 1e-15);
  EXPECT_EQ(rank.dx[4], 0.0) << "a dropped token has no gradient without an auxiliary loss";
  EXPECT_EQ(rank.dx[5], 0.0);
}

// Values by a few lines of Python; logits (1, 0) and (0.5, 2), standard deviation 2 / E = 1.
TEST(ReferenceLayer, LossesMatchHandWorkedExample) {
  const auto loss = [](ReferenceLoss kind, std::int64_t top_k, double z_loss_weight) {
    TwoExperts layer;
    layer.config.loss = kind;
    layer.config.gate_noise = 2.0;
    layer.config.z_loss_weight = z_loss_weight;
    return reference_forward(layer.config, layer.parameters, {.top_k = top_k}, {make_tokens({1, 0, 0.5, 2})})
        .l_aux[0];
  };
  EXPECT_NEAR(loss(ReferenceLoss::kLoadImportance, 1, 0), 0.013102459194721352, 1e-14);
  EXPECT_NEAR(loss(ReferenceLoss::kLoadImportance, 2, 0), 0.008580869661857162, 1e-14);
  EXPECT_NEAR(loss(ReferenceLoss::kLoadImportanceReleased, 1, 0), 0.017412677351022622, 1e-14);
  EXPECT_NEAR(loss(ReferenceLoss::kLoadImportanceReleased, 2, 0), 0.008846275324171905, 1e-14);
  EXPECT_NEAR(loss(ReferenceLoss::kNone, 1, 10), 10 * 3.285438340190989, 1e-13);
  EXPECT_NEAR(loss(ReferenceLoss::kGshard, 1, 0), 1.0,
              1e-15);  // one first choice each: 2/4 * (sum of scores = 2)
}

TEST(ReferenceLayer, GatedExpertMatchesHandWorkedExample) {
  const ReferenceConfig config = {.model_dim = 2, .hidden_dim = 1, .num_experts = 1, .gated = true};
  const ReferenceParameters parameters = {.gate_weight = {0, 0}, .w1 = {1, 0}, .w2 = {0, 1}, .w3 = {1, -2}};
  const auto result = reference_forward(config, parameters, {}, {make_tokens({3, 0.5})});
  const double hidden = 3 / (1 + std::exp(-3.0)) * 0.5;
  EXPECT_NEAR(result.ranks[0].y[0], hidden, 1e-15);
  EXPECT_NEAR(result.ranks[0].y[1], -2 * hidden, 1e-15);
}

TEST(ReferenceLayer, BatchPriorityDropsTheLeastCertain) {
  TwoExperts layer;
  layer.config.batch_prioritized = true;
  const auto tokens =
      make_tokens({1, 1, 2, 0, 3, 0, 0, 1, 3, 0});  // tokens 2 and 4 tie: the lower goes first
  const auto result = reference_forward(layer.config, layer.parameters, {.top_k = 1}, {tokens});
  EXPECT_EQ(result.capacity, 3);
  EXPECT_EQ(result.ranks[0].locations, (std::vector<std::int32_t>{3, 2, 0, 0, 1}));
}

TEST(ReferenceLayer, FirstChoicesComeBeforeSecondOnes) {
  const TwoExperts layer;
  const auto tokens = make_tokens({1, 0, 0, 1, 2, 0});
  const auto result =
      reference_forward(layer.config, layer.parameters, {.top_k = 2, .capacity_factor = 0}, {tokens});
  const ReferenceRank& rank = result.ranks[0];
  EXPECT_EQ(rank.indices, (std::vector<std::int32_t>{0, 1, 1, 0, 0, 1}));
  EXPECT_EQ(rank.locations, (std::vector<std::int32_t>{0, 1, 0, 2, 1, 2}));
  EXPECT_EQ(result.capacity, 3);
  EXPECT_EQ(rank.num_dropped, 0);
}

TEST(ReferenceLayer, CapacityFloorsBeforeTheProduct) {
  const auto capacity = [](double factor, std::int64_t needed) {
    return reference_capacity({.top_k = 2, .capacity_factor = factor}, 4, 10, needed);  // 3 tokens per expert
  };
  EXPECT_EQ(capacity(1.0, 9), 6);
  EXPECT_EQ(capacity(1.25, 9), 6);  // not floor(7.5)
  EXPECT_EQ(capacity(0.3, 9), 0);
  EXPECT_EQ(capacity(0.0, 9), 9);
  EXPECT_EQ(capacity(-1.25, 9), 6);
  EXPECT_EQ(capacity(-1.25, 4), 4);
}

TEST(ReferenceLayer, CapacityComesFromTheLargestRank) {
  const TwoExperts layer;
  const auto large = make_tokens({1, 0, 1, 0, 1, 0, 0, 1});
  const auto small = make_tokens({1, 0, 1, 0});
  const auto capacity = [&](double factor) {
    return reference_forward(layer.config, layer.parameters, {.top_k = 1, .capacity_factor = factor},
                             {small, make_tokens({}), large})
        .capacity;
  };
  EXPECT_EQ(capacity(1.0), 2);
  EXPECT_EQ(capacity(0.0), 3);
  EXPECT_EQ(capacity(-1.0), 2);
}

ReferenceConfig noisy_config() {
  return {.model_dim = 6,
          .hidden_dim = 5,
          .num_experts = 4,
          .gate = ReferenceGate::kCosine,
          .proj_dim = 3,
          .loss = ReferenceLoss::kLoadImportance,
          .gate_noise = 1.5,
          .z_loss_weight = 0.1};
}

ReferenceTokens random_tokens(const ReferenceConfig& config, std::int64_t num_tokens, std::uint64_t seed) {
  return {.x = random_values(num_tokens * config.model_dim, 2 * seed),
          .dy = random_values(num_tokens * config.model_dim, 2 * seed + 1)};
}

ReferenceTokens rows(const ReferenceConfig& config, const ReferenceTokens& tokens, std::int64_t begin,
                     std::int64_t end) {
  const auto slice = [&](const std::vector<double>& matrix) {
    return std::vector<double>(matrix.begin() + begin * config.model_dim,
                               matrix.begin() + end * config.model_dim);
  };
  return {.x = slice(tokens.x), .dy = slice(tokens.dy)};
}

void expect_close(const std::vector<double>& actual, const std::vector<double>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 1e-12);
}

// Without drops nothing depends on how tokens are spread: neither the noise nor a loss of global scope.
TEST(ReferenceLayer, SpreadOverRanksEqualsOneRank) {
  const ReferenceConfig config = noisy_config();
  const ReferenceParameters parameters = random_parameters(config, 1);
  const ReferenceCall call = {
      .top_k = 2, .capacity_factor = 0, .add_noise = true, .seed = 3, .aux_weight = 0.5};
  const ReferenceTokens tokens = random_tokens(config, 12, 1);
  auto one = reference_layer(config, parameters, call, {tokens});
  auto spread =
      reference_layer(config, parameters, call,
                      {rows(config, tokens, 0, 5), rows(config, tokens, 5, 5), rows(config, tokens, 5, 12)});

  EXPECT_NE(one.ranks[0].noisy_logits, one.ranks[0].clean_logits);
  EXPECT_NEAR(spread.total_loss, one.total_loss, 1e-12);
  std::vector<double> y;
  std::vector<double> dx;
  for (const ReferenceRank& rank : spread.ranks) {
    y.insert(y.end(), rank.y.begin(), rank.y.end());
    dx.insert(dx.end(), rank.dx.begin(), rank.dx.end());
  }
  expect_close(y, one.ranks[0].y);
  expect_close(dx, one.ranks[0].dx);
  expect_close(spread.l_aux, std::vector<double>(3, one.l_aux[0]));
  const auto spread_gradients = list_parameters(spread.gradients);
  const auto one_gradients = list_parameters(one.gradients);
  for (std::size_t i = 0; i < one_gradients.size(); ++i) {
    SCOPED_TRACE(one_gradients[i].first);
    expect_close(*spread_gradients[i].second, *one_gradients[i].second);
  }
}

TEST(ReferenceLayer, LocalScopeIsEachRanksOwnLoss) {
  ReferenceConfig config = noisy_config();
  config.local_loss_scope = true;
  const ReferenceParameters parameters = random_parameters(config, 1);
  const ReferenceCall call = {.top_k = 2, .capacity_factor = 0};
  const ReferenceTokens first = random_tokens(config, 5, 1);
  const ReferenceTokens second = random_tokens(config, 7, 2);
  const auto result = reference_forward(config, parameters, call, {first, {}, second});
  const auto alone = [&](const ReferenceTokens& tokens) {
    return reference_forward(config, parameters, call, {tokens}).l_aux[0];
  };
  EXPECT_EQ(result.l_aux, (std::vector<double>{alone(first), 0.0, alone(second)}));
}

TEST(ReferenceLayer, LoadImportanceOfOneExpertIsZero) {
  ReferenceConfig config = noisy_config();
  config.num_experts = 1;
  config.z_loss_weight = 0.0;
  const auto result = reference_layer(config, random_parameters(config, 1), {.top_k = 1, .aux_weight = 1},
                                      {random_tokens(config, 3, 1)});
  EXPECT_EQ(result.l_aux[0], 0.0);
}

TEST(ReferenceLayer, RefusesWhatCannotBe) {
  ReferenceConfig config = noisy_config();
  ReferenceParameters parameters = random_parameters(config, 1);
  const ReferenceTokens tokens = random_tokens(config, 3, 1);
  EXPECT_THROW((void)reference_forward(config, parameters, {.top_k = 5}, {tokens}), InputError);
  EXPECT_THROW((void)reference_forward(config, parameters, {.top_k = 0}, {tokens}), InputError);
  EXPECT_THROW((void)reference_forward(config, parameters, {}, {{.x = tokens.x, .dy = {}}}), InputError);
  config.gate_noise = 0.0;
  EXPECT_THROW((void)reference_forward(config, parameters, {}, {tokens}), InputError);
  config.gate_noise = 1.0;
  parameters.fc2_bias.clear();
  EXPECT_THROW((void)reference_forward(config, parameters, {}, {tokens}), InputError);
}

}  // namespace
}  // namespace flex::testing
