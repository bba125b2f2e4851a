#include "models/data/crop.h"

#include <gtest/gtest.h>

#include <cmath>

namespace flex {
namespace {

CropDraw draw_of(double area, double aspect, double down, double across) {
  CropDraw draw{};
  draw.forms.fill({area, aspect});
  draw.down = down;
  draw.across = across;
  return draw;
}

// A quarter of 100 x 100 with aspect 4: sqrt(2500 / 4) = 25 high, sqrt(2500 * 4) = 100 wide; 75 rows of room.
TEST(Crop, MatchesHandWorkedExample) {
  const CropRange range{.min_aspect = 0.25, .max_aspect = 4};
  EXPECT_EQ(place_crop(draw_of(0.25, 4, 0.5, 0.9), range, 100, 100), (PixelBox{38, 0, 25, 100}));
  EXPECT_EQ(place_crop(draw_of(1, 1, 0.99, 0.99), range, 64, 64), (PixelBox{0, 0, 64, 64}));
  EXPECT_EQ(place_crop(draw_of(0.25, 1, 0.0, 0.999), range, 10, 10), (PixelBox{0, 5, 5, 5}));
}

TEST(Crop, WhereNoFormFitsItIsCentral) {
  const CropRange range;
  EXPECT_EQ(place_crop(draw_of(1, 1, 0, 0), range, 90, 300), (PixelBox{0, 90, 90, 120}));
  EXPECT_EQ(place_crop(draw_of(1, 1, 0, 0), range, 300, 90), (PixelBox{90, 0, 120, 90}));
  EXPECT_EQ(place_crop(draw_of(1, 4.0 / 3, 0, 0), range, 100, 100), (PixelBox{0, 0, 100, 100}));
}

TEST(Crop, ALaterFormIsTakenWhenTheFirstDoesNotFit) {
  CropDraw draw = draw_of(0.25, 1, 0, 0);
  draw.forms[0] = {1.0, 1.3};
  EXPECT_EQ(place_crop(draw, {}, 40, 40), (PixelBox{0, 0, 20, 20}));
}

// Crops lie inside, have areas and aspects of the range, and reach all four corners' quarters.
TEST(Crop, PropertiesOfManyDraws) {
  const CropRange range;
  PhiloxStream random(3);
  double mean_area = 0;
  constexpr int kDraws = 2000;
  for (int i = 0; i < kDraws; ++i) {
    const CropDraw draw = draw_crop(range, random);
    const PixelBox box = place_crop(draw, range, 240, 320);
    ASSERT_GE(box.top, 0);
    ASSERT_GE(box.left, 0);
    ASSERT_LE(box.top + box.height, 240);
    ASSERT_LE(box.left + box.width, 320);
    const double aspect = static_cast<double>(box.width) / static_cast<double>(box.height);
    EXPECT_GT(aspect, 0.72);
    EXPECT_LT(aspect, 1.38);
    mean_area += static_cast<double>(box.height * box.width) / (240.0 * 320.0) / kDraws;
  }
  // A form of area a and aspect r fits if a <= 0.75 r, so that a is uniform in [0.08, 0.75 r]: over r uniform
  // in its logarithm the mean is (0.75^2 E[r^2] - 0.08^2) / (2 (0.75 E[r] - 0.08)) = 0.432. The deviation of
  // one draw is at most 0.29, of the mean 0.0065.
  EXPECT_NEAR(mean_area, 0.432, 0.026);
}

// An image whose shorter side is least_side() has a crop of the first form with sides of at least the size.
TEST(Crop, LeastSideKeepsTheCropLargeEnough) {
  EXPECT_EQ(least_side(draw_of(0.25, 1, 0, 0), 32), 64);
  PhiloxStream random(4);
  for (int i = 0; i < 500; ++i) {
    CropDraw draw = draw_crop({.min_area = 0.08, .max_area = 0.7}, random);
    draw.forms.fill(draw.forms.front());
    const std::int64_t side = least_side(draw, 48);
    const PixelBox box = place_crop(draw, {}, side, 2 * side);
    EXPECT_GE(std::min(box.height, box.width), 48);
  }
}

// 224 of 256: of a shorter side of 256 the central 224, of 500 the central 437.5.
TEST(Crop, EvaluationTakesTheCentre) {
  EXPECT_EQ(central_box(256, 300, 224.0 / 256), (PixelBox{16, 38, 224, 224}));
  EXPECT_EQ(central_box(600, 500, 224.0 / 256), (PixelBox{81, 31, 438, 438}));
  EXPECT_EQ(central_box(32, 32, 1), (PixelBox{0, 0, 32, 32}));
  EXPECT_EQ(resized_side(224, 224.0 / 256), 256);
  EXPECT_EQ(resized_side(192, 224.0 / 256), 219);
}

}  // namespace
}  // namespace flex
