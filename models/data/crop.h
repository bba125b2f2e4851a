#pragma once

#include <array>
#include <cstdint>

#include "base/philox.h"
#include "models/data/resample.h"

namespace flex {

/// Which boxes a random resized crop cuts out.
/// @source Szegedy et al., "Going Deeper with Convolutions", 6: 8% to 100% of the area, aspects 3/4 to 4/3.
struct CropRange {
  double min_area = 0.08;  ///< share of the image's area
  double max_area = 1.0;
  double min_aspect = 3.0 / 4.0;  ///< width / height
  double max_aspect = 4.0 / 3.0;

  friend bool operator==(const CropRange&, const CropRange&) = default;
};

/// A random crop that does not know its image yet: how large the image must be decoded depends on the crop.
struct CropDraw {
  static constexpr int kAttempts = 10;
  struct Form {
    double area;
    double aspect;
  };
  std::array<Form, kAttempts> forms;  ///< the first that fits into the image is taken
  double down;                        ///< place in [0, 1) of what room is left
  double across;
};

/// Areas are uniform, aspects uniform in their logarithm.
[[nodiscard]] CropDraw draw_crop(const CropRange& range, PhiloxStream& random);

/// The least shorter side of an image whose crop, of the first form, is not enlarged to `size` x `size`.
[[nodiscard]] std::int64_t least_side(const CropDraw& draw, std::int64_t size);

/// The crop of an image; if no form fits, the largest central box with an aspect in the range.
[[nodiscard]] PixelBox place_crop(const CropDraw& draw, const CropRange& range, std::int64_t height,
                                  std::int64_t width);

/// The shorter side, in whole pixels, of which a central square of `size` is `share`.
[[nodiscard]] std::int64_t resized_side(std::int64_t size, double share);

/// For evaluation: the central square whose side is `share` of the image's shorter side. Resized to S x S it
/// is, but for rounding to whole pixels, the image with its shorter side resized to S / share, cropped to S.
[[nodiscard]] PixelBox central_box(std::int64_t height, std::int64_t width, double share);

}  // namespace flex
