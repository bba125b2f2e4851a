#include "models/data/colour.h"

#include <gmock/gmock.h>

#include <vector>

namespace flex {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

RgbImage pixels(std::vector<std::uint8_t> values) {
  const auto width = static_cast<std::int64_t>(values.size() / 3);
  return {1, width, std::move(values)};
}

template <class Change>
std::vector<int> changed(std::vector<std::uint8_t> values, const Change& change) {
  RgbImage image = pixels(std::move(values));
  change(image);
  return {image.pixels.begin(), image.pixels.end()};
}

TEST(Colour, LumaOfTheWhiteIsWhite) {
  EXPECT_EQ(luma(255, 255, 255), 255);
  EXPECT_EQ(luma(255, 0, 0), 76);  // 0.299 * 255 = 76.2
  EXPECT_EQ(luma(0, 255, 0), 150);
  EXPECT_EQ(luma(0, 0, 255), 29);
}

TEST(Colour, BrightnessScales) {
  EXPECT_THAT(changed({0, 100, 200}, [](RgbImage& image) { adjust_brightness(image, 1.5); }),
              ElementsAre(0, 150, 255));
  EXPECT_THAT(changed({0, 100, 200}, [](RgbImage& image) { adjust_brightness(image, 0); }), Each(0));
}

// Lumas 40 and 61: the mean is 50.5, rounded to 51.
TEST(Colour, ContrastBlendsWithTheMeanLuma) {
  EXPECT_THAT(changed({40, 40, 40, 61, 61, 61}, [](RgbImage& image) { adjust_contrast(image, 0); }),
              Each(51));
  EXPECT_THAT(changed({40, 40, 40, 61, 61, 61}, [](RgbImage& image) { adjust_contrast(image, 2); }),
              ElementsAre(29, 29, 29, 71, 71, 71));
}

TEST(Colour, SaturationBlendsWithThePixelsLuma) {
  EXPECT_THAT(changed({255, 0, 0}, [](RgbImage& image) { adjust_saturation(image, 0); }),
              ElementsAre(76, 76, 76));
  EXPECT_THAT(changed({255, 0, 0}, [](RgbImage& image) { adjust_saturation(image, 0.5); }),
              ElementsAre(166, 38, 38));
  EXPECT_THAT(changed({10, 20, 30}, [](RgbImage& image) { adjust_saturation(image, 1); }),
              ElementsAre(10, 20, 30));
}

// A centre of 130 among zeros: smoothed (5 * 130) / 13 = 50; at factor 2 it is 50 + 2 * 80 = 210.
TEST(Colour, SharpnessLeavesTheBorder) {
  RgbImage image{3, 3, std::vector<std::uint8_t>(27, 0)};
  for (std::size_t i = 12; i < 15; ++i) image.pixels[i] = 130;
  RgbImage soft = image;
  adjust_sharpness(soft, 0);
  EXPECT_EQ(soft.pixels[12], 50);
  EXPECT_EQ(soft.pixels[9], 0);
  adjust_sharpness(image, 2);
  EXPECT_EQ(image.pixels[14], 210);
  RgbImage thin = pixels({1, 2, 3});
  adjust_sharpness(thin, 0);
  EXPECT_THAT(thin.pixels, ElementsAre(1, 2, 3));
}

TEST(Colour, MapsOfValues) {
  EXPECT_THAT(changed({0, 127, 200}, [](RgbImage& image) { solarize(image, 128); }), ElementsAre(0, 127, 55));
  EXPECT_THAT(changed({0, 127, 200}, [](RgbImage& image) { solarize(image, 256); }),
              ElementsAre(0, 127, 200));
  EXPECT_THAT(changed({0, 127, 200}, [](RgbImage& image) { solarize_add(image, 110); }),
              ElementsAre(110, 237, 200));
  EXPECT_THAT(changed({255, 127, 63}, [](RgbImage& image) { posterize(image, 2); }), ElementsAre(192, 64, 0));
  EXPECT_THAT(changed({255, 127, 63}, [](RgbImage& image) { posterize(image, 8); }),
              ElementsAre(255, 127, 63));
  EXPECT_THAT(changed({255, 127, 63}, [](RgbImage& image) { posterize(image, 0); }), Each(0));
  EXPECT_THAT(changed({255, 127, 63}, [](RgbImage& image) { invert(image); }), ElementsAre(0, 128, 192));
}

// Red from 50 to 100 is stretched; green of one value stays; blue is stretched already.
TEST(Colour, ContrastIsStretchedByChannel) {
  EXPECT_THAT(changed({50, 7, 0, 75, 7, 255, 100, 7, 9}, [](RgbImage& image) { stretch_contrast(image); }),
              ElementsAre(0, 7, 0, 128, 7, 255, 255, 7, 9));
}

// 510 pixels of 10, 255 of 20 and 255 of 30: a step is (1020 - 255) / 255 = 3, half of it 1; 10 has none
// below, 20 has 511 / 3, 30 has 766 / 3.
TEST(Colour, EqualizeSpreadsTheValues) {
  RgbImage image{1, 1020, {}};
  for (int i = 0; i < 1020; ++i) image.pixels.insert(image.pixels.end(), 3, i < 510 ? 10 : i < 765 ? 20 : 30);
  equalize(image);
  EXPECT_EQ(image.pixels[0], 0);
  EXPECT_EQ(image.pixels[3 * 510], 170);
  EXPECT_EQ(image.pixels[3 * 765], 255);
  RgbImage flat = pixels({9, 9, 9, 9, 9, 9});
  equalize(flat);
  EXPECT_THAT(flat.pixels, Each(9));
}

TEST(Colour, JitterIsBoundedAndRandom) {
  PhiloxStream random(1);
  int least = 255;
  int most = 0;
  for (int i = 0; i < 300; ++i) {
    RgbImage image = pixels({100, 100, 100});
    jitter_colours(image, 0.4, random);  // grey of one value: only brightness tells
    least = std::min<int>(least, image.pixels[0]);
    most = std::max<int>(most, image.pixels[0]);
  }
  EXPECT_GE(least, 60);
  EXPECT_LT(least, 65);
  EXPECT_LE(most, 140);
  EXPECT_GT(most, 135);
}

}  // namespace
}  // namespace flex
