#include "base/philox.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <set>
#include <vector>

namespace flex {
namespace {

std::array<std::uint32_t, 4> random_words(PhiloxBlock counter, PhiloxKey key) {
  const PhiloxBlock block = philox4x32(counter, key);
  return {block.words[0], block.words[1], block.words[2], block.words[3]};
}

using Words = std::array<std::uint32_t, 4>;

// From kat_vectors of Random123.
TEST(Philox, MatchesKnownAnswers) {
  EXPECT_EQ(random_words({{0, 0, 0, 0}}, {{0, 0}}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr std::uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(random_words({{kOnes, kOnes, kOnes, kOnes}}, {{kOnes, kOnes}}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(random_words({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, {{0xa4093822, 0x299f31d0}}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, IsUsableInConstantExpressions) {
  static_assert(philox4x32({{0, 0, 0, 0}}, {{0, 0}}).words[0] == 0x6627e8d5);
  static_assert(splitmix64(0) == 0xe220a8397b1dcdaf);
}

TEST(BoxMuller, StaysFiniteAtItsEnds) {
  EXPECT_EQ(box_muller(0xffffffff, 0), 0.0);                              // u1 = 1
  EXPECT_NEAR(box_muller(0, 0), std::sqrt(64.0 * std::log(2.0)), 1e-14);  // u1 = 2^-32
  EXPECT_NEAR(box_muller(0, 0x80000000), -std::sqrt(64.0 * std::log(2.0)), 1e-14);
}

// Computed by a separate program in Python from the mapping that the header states. A change here changes
// every training run with noise.
TEST(GateNoise, MappingIsPinned) {
  EXPECT_NEAR(gate_noise_normal(0, 0, 0, 0, 0), 0.3337205219360164, 1e-15);
  EXPECT_NEAR(gate_noise_normal(0, 0, 0, 0, 1), -0.5699067627037757, 1e-15);
  EXPECT_NEAR(gate_noise_normal(42, 7, 3, 1000, 5), -0.7274506343915149, 1e-15);
  EXPECT_NEAR(
      gate_noise_normal(~std::uint64_t{0}, (std::uint64_t{5} << 32) + 9, 11, (std::int64_t{1} << 40) + 3, 62),
      -0.13463419036689703, 1e-15);
}

TEST(GateNoise, EveryArgumentMatters) {
  constexpr std::uint64_t kHigh = std::uint64_t{1} << 32;
  const std::set<double> draws = {gate_noise_normal(1, 1, 1, 1, 2),
                                  gate_noise_normal(2, 1, 1, 1, 2),
                                  gate_noise_normal(1 + kHigh, 1, 1, 1, 2),
                                  gate_noise_normal(1, 2, 1, 1, 2),
                                  gate_noise_normal(1, 1 + kHigh, 1, 1, 2),
                                  gate_noise_normal(1, 1, 2, 1, 2),
                                  gate_noise_normal(1, 1, 1, 2, 2),
                                  gate_noise_normal(1, 1, 1, 1 + static_cast<std::int64_t>(kHigh), 2),
                                  gate_noise_normal(1, 1, 1, 1, 3),
                                  gate_noise_normal(1, 1, 1, 1, 4),
                                  gate_noise_normal(1, kHigh, 0, 1, 2),
                                  gate_noise_normal(1, 0, 1, 1, 2)};
  EXPECT_EQ(draws.size(), 12U);
}

struct Moments {
  double mean = 0.0;
  double variance = 0.0;
  double skewness = 0.0;
  double kurtosis = 0.0;
};

Moments moments_of(const std::vector<double>& values) {
  Moments moments;
  const auto count = static_cast<double>(values.size());
  for (const double value : values) moments.mean += value / count;
  for (const double value : values) moments.variance += std::pow(value - moments.mean, 2) / count;
  for (const double value : values) {
    const double standard = (value - moments.mean) / std::sqrt(moments.variance);
    moments.skewness += std::pow(standard, 3) / count;
    moments.kurtosis += std::pow(standard, 4) / count;
  }
  return moments;
}

// Of n normal draws the standard errors are 1, sqrt(2), sqrt(6) and sqrt(24), each over sqrt(n); five of
// them.
void expect_standard_normal(const std::vector<double>& values) {
  const Moments moments = moments_of(values);
  const double tolerance = 5.0 / std::sqrt(static_cast<double>(values.size()));
  EXPECT_NEAR(moments.mean, 0.0, tolerance);
  EXPECT_NEAR(moments.variance, 1.0, tolerance * std::sqrt(2.0));
  EXPECT_NEAR(moments.skewness, 0.0, tolerance * std::sqrt(6.0));
  EXPECT_NEAR(moments.kurtosis, 3.0, tolerance * std::sqrt(24.0));
}

void expect_uncorrelated(const std::vector<double>& a, const std::vector<double>& b) {
  double product = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) product += a[i] * b[i] / static_cast<double>(a.size());
  EXPECT_NEAR(product, 0.0, 5.0 / std::sqrt(static_cast<double>(a.size())));
}

constexpr std::int64_t kNumTokens = 4096;
constexpr std::int64_t kNumExperts = 16;

std::vector<double> noise(std::uint64_t iteration, std::uint32_t layer, std::int64_t expert_shift = 0) {
  std::vector<double> draws;
  for (std::int64_t token = 0; token < kNumTokens; ++token) {
    for (std::int64_t expert = 0; expert < kNumExperts; ++expert) {
      draws.push_back(gate_noise_normal(7, iteration, layer, token, expert + expert_shift));
    }
  }
  return draws;
}

TEST(GateNoise, IsStandardNormal) { expect_standard_normal(noise(0, 0)); }

TEST(GateNoise, NeighboursAreUncorrelated) {
  const auto draws = noise(0, 0);
  expect_uncorrelated(draws, noise(1, 0));
  expect_uncorrelated(draws, noise(0, 1));
  expect_uncorrelated(draws, noise(0, 0, kNumExperts));
  expect_uncorrelated({draws.begin(), draws.end() - 1}, {draws.begin() + 1, draws.end()});  // the next expert
  expect_uncorrelated({draws.begin(), draws.end() - kNumExperts}, {draws.begin() + kNumExperts, draws.end()});
}

TEST(GateNoise, DoesNotDependOnOrder) {
  const auto draws = noise(3, 2);
  for (std::int64_t i = kNumTokens * kNumExperts - 1; i >= 0; --i) {
    ASSERT_EQ(gate_noise_normal(7, 3, 2, i / kNumExperts, i % kNumExperts),
              draws[static_cast<std::size_t>(i)]);
  }
}

// Words by the same Python program: block 0, then block 1.
TEST(PhiloxStream, SequenceIsPinned) {
  PhiloxStream stream(1234567890123456789, 5);
  for (const std::uint32_t word :
       {0x6bcd9d4bU, 0x538c43b8U, 0x644fd99bU, 0xbc0cbfe0U, 0x8a723c8bU, 0x78a7ecb8U}) {
    EXPECT_EQ(stream.next_u32(), word);
  }
  EXPECT_EQ(PhiloxStream(1234567890123456789, 5).next_u64(), 0x538c43b86bcd9d4bU);
}

TEST(PhiloxStream, SeedsAndStreamsDiffer) {
  const std::set<std::uint64_t> first = {PhiloxStream(1, 0).next_u64(), PhiloxStream(0, 1).next_u64(),
                                         PhiloxStream(std::uint64_t{1} << 32, 0).next_u64(),
                                         PhiloxStream(0, std::uint64_t{1} << 32).next_u64(),
                                         PhiloxStream(0, 0).next_u64()};
  EXPECT_EQ(first.size(), 5U);
}

TEST(PhiloxStream, CopyContinuesFromTheSamePlace) {
  PhiloxStream stream(9);
  stream.next_u32();
  PhiloxStream copy = stream;
  for (int i = 0; i < 9; ++i) EXPECT_EQ(copy.next_u32(), stream.next_u32());
}

TEST(PhiloxStream, NormalIsStandardNormal) {
  PhiloxStream stream(11);
  std::vector<double> draws(100'000);
  for (double& draw : draws) draw = stream.normal();
  expect_standard_normal(draws);
}

TEST(PhiloxStream, UniformFillsItsInterval) {
  PhiloxStream stream(12);
  constexpr int kNumDraws = 100'000;
  std::vector<double> draws(kNumDraws);
  for (double& draw : draws) {
    draw = stream.uniform();
    ASSERT_GE(draw, 0.0);
    ASSERT_LT(draw, 1.0);
  }
  const Moments moments = moments_of(draws);
  EXPECT_NEAR(moments.mean, 0.5, 5.0 / std::sqrt(12.0 * kNumDraws));
  EXPECT_NEAR(moments.variance, 1.0 / 12.0, 5.0 / std::sqrt(180.0 * kNumDraws));
}

TEST(PhiloxStream, BelowIsEvenlySpread) {
  PhiloxStream stream(13);
  constexpr int kNumDraws = 70'000;
  std::array<int, 7> counts = {};
  for (int i = 0; i < kNumDraws; ++i) ++counts.at(static_cast<std::size_t>(stream.below(7)));
  double chi_square = 0.0;
  for (const int count : counts) chi_square += std::pow(count - kNumDraws / 7.0, 2) / (kNumDraws / 7.0);
  EXPECT_LT(chi_square, 22.5);  // 6 degrees of freedom: exceeded once in a thousand seeds
}

TEST(PhiloxStream, BelowTakesEveryPositiveBound) {
  PhiloxStream stream(14);
  EXPECT_EQ(stream.below(1), 0);
  const std::int64_t largest = stream.below(std::numeric_limits<std::int64_t>::max());
  EXPECT_GE(largest, 0);
  EXPECT_THROW((void)stream.below(0), InputError);
  EXPECT_THROW((void)stream.below(-3), InputError);
}

}  // namespace
}  // namespace flex
