#include "models/data/resample.h"

#include "base/require.h"

namespace flex {

#ifdef FLEX_HAS_IMAGES
constexpr bool kHasOpenCv = true;
#else
constexpr bool kHasOpenCv = false;
#endif

void resize_box(const RgbImage& from, const PixelBox& box, Interpolation interpolation, std::int64_t height,
                std::int64_t width, RgbImage& to) {
  require(box.height > 0 && box.width > 0 && box.top >= 0 && box.left >= 0 &&
              box.height <= from.height - box.top && box.width <= from.width - box.left,
          "resize_box: {} x {} pixels at ({}, {}) do not lie in an image of {} x {}", box.height, box.width,
          box.top, box.left, from.height, from.width);
  if constexpr (kHasOpenCv) {
    resize_box_opencv(from, box, interpolation, height, width, to);
  } else {
    resize_box_plain(from, box, interpolation, height, width, to);
  }
}

void warp(const RgbImage& from, const AffineMap& map, Interpolation interpolation, const Rgb& fill,
          RgbImage& to) {
  if constexpr (kHasOpenCv) {
    warp_opencv(from, map, interpolation, fill, to);
  } else {
    warp_plain(from, map, fill, to);
  }
}

}  // namespace flex
