#include "models/data/image_planes.h"

#include <gmock/gmock.h>

#include <cmath>
#include <vector>

namespace flex {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;

TEST(ImagePlanes, NormalizesByChannel) {
  const RgbImage image{1, 2, {0, 51, 255, 255, 102, 0}};
  std::vector<double> planes(6, -99);
  write_planes<double>(image, {.mean = {0.5, 0.2, 0}, .deviation = {0.5, 0.1, 2}}, planes);
  EXPECT_THAT(planes, ElementsAre(-1, 1, DoubleNear(0, 1e-15), DoubleNear(2, 1e-14), 0.5, 0));
  EXPECT_THAT(mean_colour({.mean = {0.5, 0, 1}}), ElementsAre(128, 0, 255));
}

// The box is noise, all else stays; boxes have 2% to a third of the area.
TEST(ImagePlanes, ErasesOneBox) {
  constexpr std::int64_t kSize = 40;
  PhiloxStream random(5);
  int num_erased = 0;
  for (int round = 0; round < 400; ++round) {
    std::vector<float> planes(3 * kSize * kSize, 100);
    erase_randomly<float>(0.25, random, kSize, planes);
    int num_noise = 0;
    for (std::size_t i = 0; i < planes.size(); ++i) {
      const bool is_noise = planes[i] != 100;
      num_noise += is_noise ? 1 : 0;
      EXPECT_EQ(is_noise, planes[i % (kSize * kSize)] != 100) << "the same box in every plane";
      EXPECT_TRUE(!is_noise || std::abs(planes[i]) < 7) << planes[i];
    }
    if (num_noise == 0) continue;
    ++num_erased;
    EXPECT_GT(num_noise, 3 * 0.015 * kSize * kSize);
    EXPECT_LT(num_noise, 3 * 0.36 * kSize * kSize);
  }
  EXPECT_NEAR(num_erased, 100, 35);  // four standard deviations of 8.7
}

TEST(ImagePlanes, MixupBlendsBothWays) {
  std::vector<double> first(12, 10);
  std::vector<double> second(12, 20);
  mix_planes<double>({.share = 0.7}, 2, first, second);
  EXPECT_DOUBLE_EQ(first[11], 13);
  EXPECT_DOUBLE_EQ(second[0], 17);
}

TEST(ImagePlanes, CutmixExchangesTheBox) {
  std::vector<float> first(12, 1);
  std::vector<float> second(12, 2);
  mix_planes<float>({.share = 0.5, .box = {1, 0, 1, 2}}, 2, first, second);
  EXPECT_THAT(first, ElementsAre(1, 1, 2, 2, 1, 1, 2, 2, 1, 1, 2, 2));
  EXPECT_THAT(second, ElementsAre(2, 2, 1, 1, 2, 2, 1, 1, 2, 2, 1, 1));
}

TEST(ImagePlanes, NothingIsMixedWithoutADraw) {
  PhiloxStream random(1);
  EXPECT_EQ(draw_mix({}, 8, random).share, 1);
  EXPECT_EQ(draw_mix({.mixup = 1, .probability = 0}, 8, random).share, 1);
  EXPECT_EQ(random.next_u64(), PhiloxStream(1).next_u64());
}

TEST(ImagePlanes, CutmixSharesAreThoseOfThePixels) {
  PhiloxStream random(2);
  int num_boxes = 0;
  int num_blends = 0;
  for (int i = 0; i < 400; ++i) {
    const PairMix mix = draw_mix({.mixup = 0.8, .cutmix = 1}, 16, random);
    ASSERT_GE(mix.share, 0);
    ASSERT_LE(mix.share, 1);
    if (mix.box.height == 0) {
      ++num_blends;
      continue;
    }
    ++num_boxes;
    EXPECT_DOUBLE_EQ(mix.share, 1 - static_cast<double>(mix.box.height * mix.box.width) / 256);
    EXPECT_LE(mix.box.top + mix.box.height, 16);
    EXPECT_LE(mix.box.left + mix.box.width, 16);
  }
  EXPECT_GT(num_boxes, 140);
  EXPECT_GT(num_blends, 140);
}

// Beta(a, a) has the mean 1/2 and the variance 1 / (4 (2a + 1)).
TEST(ImagePlanes, BetaHasItsMoments) {
  for (const double a : {0.2, 0.8, 1.0, 3.0}) {
    PhiloxStream random(6);
    constexpr int kDraws = 20000;
    double sum = 0;
    double squares = 0;
    for (int i = 0; i < kDraws; ++i) {
      const double x = draw_beta(a, random);
      ASSERT_GE(x, 0);
      ASSERT_LE(x, 1);
      sum += x / kDraws;
      squares += x * x / kDraws;
    }
    EXPECT_NEAR(sum, 0.5, 0.014) << a;  // four standard errors of at most 0.5 / sqrt(20000)
    EXPECT_NEAR(squares - sum * sum, 1 / (4 * (2 * a + 1)), 0.01) << a;
  }
}

}  // namespace
}  // namespace flex
