#pragma once

#include <array>
#include <cstdint>

#include "models/data/image_set.h"

namespace flex {

/// How values between pixels are found. kBicubic: Keys' kernel with a = -0.75.
/// @source Keys, "Cubic Convolution Interpolation for Digital Image Processing", 1981.
enum class Interpolation : std::uint8_t { kBilinear, kBicubic };

/// Pixels [top, top + height) x [left, left + width) of an image.
struct PixelBox {
  std::int64_t top = 0;
  std::int64_t left = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;

  friend bool operator==(const PixelBox&, const PixelBox&) = default;
};

/// Where an output pixel (x, y) comes from: (xx x + xy y + x0, yx x + yy y + y0), in pixels, centres at whole
/// numbers.
struct AffineMap {
  double xx = 1, xy = 0, x0 = 0;
  double yx = 0, yy = 1, y0 = 0;
};

using Rgb = std::array<std::uint8_t, 3>;

/// Resizes `box` of `from` to `height` x `width` pixels. If neither side grows, an output pixel is the mean
/// of the area that it covers; else it is interpolated, with the box's border pixels repeated outside of it.
///
/// OpenCV does it where the build has it, in the calling thread: its own threads are switched off in this
/// process at the first use. Its fixed-point arithmetic differs from the plain one by rounding, so runs
/// are bit-exact within a build, not between a build with OpenCV and one without.
/// @throws InputError if the box is empty or does not lie in the image.
void resize_box(const RgbImage& from, const PixelBox& box, Interpolation interpolation, std::int64_t height,
                std::int64_t width, RgbImage& to);

/// Fills an image of the size of `from` through `map`; what comes from outside is `fill`. By OpenCV or plain,
/// as resize_box(); bicubic is bilinear in the plain one.
void warp(const RgbImage& from, const AffineMap& map, Interpolation interpolation, const Rgb& fill,
          RgbImage& to);

/// The specification of the two, in plain loops, which every build has.
void resize_box_plain(const RgbImage& from, const PixelBox& box, Interpolation interpolation,
                      std::int64_t height, std::int64_t width, RgbImage& to);
void warp_plain(const RgbImage& from, const AffineMap& map, const Rgb& fill, RgbImage& to);

/// Only in builds with image files.
void resize_box_opencv(const RgbImage& from, const PixelBox& box, Interpolation interpolation,
                       std::int64_t height, std::int64_t width, RgbImage& to);
void warp_opencv(const RgbImage& from, const AffineMap& map, Interpolation interpolation, const Rgb& fill,
                 RgbImage& to);

}  // namespace flex
