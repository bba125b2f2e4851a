#pragma once

#include <cstdint>

#include "base/philox.h"
#include "models/data/image_set.h"

namespace flex {

/// Changes of an image's colours, in place, as the papers on learned augmentation name them. A `factor` of 1
/// changes nothing, 0 takes the property away, more than 1 exaggerates it. Results are rounded and kept in
/// [0, 255].
/// @source Cubuk et al., "AutoAugment", table 6.

/// Blends with black.
void adjust_brightness(RgbImage& image, double factor);
/// Blends with the mean, rounded, of the image's luma.
void adjust_contrast(RgbImage& image, double factor);
/// Blends each pixel with its luma.
void adjust_saturation(RgbImage& image, double factor);
/// Blends with the image smoothed by (1 1 1; 1 5 1; 1 1 1) / 13; pixels of the border stay.
void adjust_sharpness(RgbImage& image, double factor);
/// Values of at least `threshold`, in [0, 256], become 255 - value.
void solarize(RgbImage& image, int threshold);
/// Adds `amount` to the values below 128.
void solarize_add(RgbImage& image, int amount);
/// Keeps the high `bits`, in [0, 8], of each value.
void posterize(RgbImage& image, int bits);
void invert(RgbImage& image);
/// Stretches each channel's values to 0 to 255.
void stretch_contrast(RgbImage& image);
/// Makes each channel's values equally frequent, as far as a map of values can.
void equalize(RgbImage& image);

/// Brightness, contrast and saturation in random order, each by a factor uniform in 1 +- strength, at least
/// 0.
void jitter_colours(RgbImage& image, double strength, PhiloxStream& random);

/// 0.299 red + 0.587 green + 0.114 blue, rounded. @source ITU-R BT.601.
[[nodiscard]] constexpr int luma(int red, int green, int blue) {
  constexpr int kRed = 19595;  // of 2^16
  constexpr int kGreen = 38470;
  constexpr int kBlue = 7471;
  return (kRed * red + kGreen * green + kBlue * blue + (1 << 15)) >> 16;
}

}  // namespace flex
