#include "models/data/resample.h"

#include <gmock/gmock.h>

#include <cmath>

#include "base/error.h"

namespace flex {
namespace {

using ::testing::ElementsAre;
using ::testing::ThrowsMessage;

// A grey image of the values.
RgbImage grey(std::int64_t height, std::int64_t width, const std::vector<int>& values) {
  RgbImage image{height, width, {}};
  for (const int value : values) image.pixels.insert(image.pixels.end(), 3, static_cast<std::uint8_t>(value));
  return image;
}

std::vector<int> greys(const RgbImage& image) {
  std::vector<int> values;
  for (std::size_t i = 0; i < image.pixels.size(); i += 3) values.push_back(image.pixels[i]);
  return values;
}

// Smooth, with other values in each channel.
RgbImage smooth_image(std::int64_t height, std::int64_t width) {
  RgbImage image{height, width, {}};
  for (std::int64_t row = 0; row < height; ++row) {
    for (std::int64_t column = 0; column < width; ++column) {
      for (int channel = 0; channel < 3; ++channel) {
        const double wave = std::sin(0.11 * static_cast<double>(row) + channel) *
                            std::cos(0.07 * static_cast<double>(column));
        image.pixels.push_back(static_cast<std::uint8_t>(127 + 100 * wave));
      }
    }
  }
  return image;
}

int largest_difference(const RgbImage& a, const RgbImage& b) {
  EXPECT_EQ(a.height, b.height);
  EXPECT_EQ(a.width, b.width);
  int largest = 0;
  for (std::size_t i = 0; i < a.pixels.size(); ++i)
    largest = std::max(largest, std::abs(a.pixels[i] - b.pixels[i]));
  return largest;
}

// 3 to 2 pixels: (1 a + 0.5 b) / 1.5 and (0.5 b + 1 c) / 1.5.
TEST(Resample, ShrinkingAveragesAreas) {
  RgbImage out;
  resize_box_plain(grey(1, 3, {30, 90, 240}), {0, 0, 1, 3}, Interpolation::kBicubic, 1, 2, out);
  EXPECT_THAT(greys(out), ElementsAre(50, 190));
  resize_box_plain(grey(2, 2, {0, 10, 20, 30}), {0, 0, 2, 2}, Interpolation::kBilinear, 1, 1, out);
  EXPECT_THAT(greys(out), ElementsAre(15));
}

// 2 to 4 pixels: centres at -0.25, 0.25, 0.75 and 1.25, the border repeated. Keys' kernel with a = -0.75 has
// the weights -0.1055, 0.8789, 0.2617, -0.0352 at a quarter; the first pixel's are 1.1055 and -0.1055 in all.
TEST(Resample, GrowingInterpolates) {
  RgbImage out;
  resize_box_plain(grey(1, 2, {40, 200}), {0, 0, 1, 2}, Interpolation::kBilinear, 1, 4, out);
  EXPECT_THAT(greys(out), ElementsAre(40, 80, 160, 200));
  resize_box_plain(grey(1, 2, {100, 200}), {0, 0, 1, 2}, Interpolation::kBicubic, 1, 4, out);
  EXPECT_THAT(greys(out), ElementsAre(89, 123, 177, 211));
}

TEST(Resample, TakesOnlyTheBox) {
  RgbImage out;
  const RgbImage image = grey(3, 3, {0, 1, 2, 10, 11, 12, 20, 21, 22});
  resize_box(image, {1, 1, 2, 2}, Interpolation::kBicubic, 2, 2, out);
  EXPECT_THAT(greys(out), ElementsAre(11, 12, 21, 22));
  EXPECT_THAT(
      [&] {
        resize_box(image, {2, 0, 2, 2}, Interpolation::kBilinear, 2, 2, out);
      },
      ThrowsMessage<InputError>("resize_box: 2 x 2 pixels at (2, 0) do not lie in an image of 3 x 3"));
}

TEST(Resample, WarpMovesAndFills) {
  RgbImage out;
  const RgbImage image = grey(2, 3, {1, 2, 3, 4, 5, 6});
  warp_plain(image, {.x0 = 1}, {9, 9, 9}, out);
  EXPECT_THAT(greys(out), ElementsAre(2, 3, 9, 5, 6, 9));
  warp_plain(image, {.xx = -1, .x0 = 2}, {9, 9, 9}, out);
  EXPECT_THAT(greys(out), ElementsAre(3, 2, 1, 6, 5, 4));
  warp_plain(grey(1, 2, {10, 20}), {.x0 = 0.5}, {30, 30, 30}, out);
  EXPECT_THAT(greys(out), ElementsAre(15, 25));
}

// What the build uses agrees with the plain specification, but for OpenCV's fixed-point weights: 11 bits in
// resizing, thirty-seconds of a pixel in warping; neighbours of this image differ by at most 11.
TEST(Resample, AgreesWithThePlainOne) {
  const RgbImage image = smooth_image(61, 83);
  const PixelBox box{5, 7, 50, 70};
  RgbImage out;
  RgbImage expected;
  struct Size {
    std::int64_t height, width;
  };
  for (const Interpolation interpolation : {Interpolation::kBilinear, Interpolation::kBicubic}) {
    for (const Size& size :
         {Size{50, 70}, Size{25, 35}, Size{33, 47}, Size{48, 64}, Size{64, 96}, Size{64, 40}}) {
      resize_box(image, box, interpolation, size.height, size.width, out);
      resize_box_plain(image, box, interpolation, size.height, size.width, expected);
      EXPECT_LE(largest_difference(out, expected), 1) << size.height << " x " << size.width;
    }
  }
  const AffineMap map{.xx = 0.9, .xy = 0.3, .x0 = -4.3, .yx = -0.3, .yy = 0.9, .y0 = 11.2};
  warp(image, map, Interpolation::kBilinear, {127, 127, 127}, out);
  warp_plain(image, map, {127, 127, 127}, expected);
  EXPECT_LE(largest_difference(out, expected), 5);
}

}  // namespace
}  // namespace flex
