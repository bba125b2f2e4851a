#pragma once

#include <cstdint>

#include "base/philox.h"
#include "models/data/resample.h"

namespace flex {

/// The changes that RandAugment draws from.
enum class AugmentOp : std::uint8_t {
  kStretchContrast,
  kEqualize,
  kInvert,
  kRotate,
  kPosterize,
  kSolarize,
  kSolarizeAdd,
  kSaturation,
  kContrast,
  kBrightness,
  kSharpness,
  kShearX,
  kShearY,
  kTranslateX,
  kTranslateY,
};
inline constexpr int kNumAugmentOps = 15;

/// RandAugment as the published Swin recipe has it: rand-m9-mstd0.5-inc1.
/// @source Cubuk et al., "RandAugment", 3; the spread of the magnitude, the probability of each change, and
///         that all changes grow with the magnitude are timm's additions, as its documentation describes
///         them.
struct RandAugment {
  std::int64_t num_ops = 0;    ///< drawn for an image, with replacement; 2 in the recipe; 0: none
  double magnitude = 9;        ///< of kMostMagnitude
  double magnitude_std = 0.5;  ///< of the normal variate around it
  double probability = 0.5;    ///< that a change that was drawn is made

  static constexpr double kMostMagnitude = 10;

  friend bool operator==(const RandAugment&, const RandAugment&) = default;
};

/// How geometry is changed.
struct WarpSettings {
  Interpolation interpolation = Interpolation::kBicubic;
  Rgb fill{};  ///< what comes in from outside
};

/// Makes one change in place. `strength` is magnitude / kMostMagnitude, in [0, 1]; at 1 an image is turned by
/// 30 degrees, sheared by 0.3, moved by 0.45 of its side, keeps no bit (posterize), is inverted (solarize),
/// has 110 added to its dark values, and colour, contrast, brightness or sharpness by the factor 1.9. At 0
/// all but the first three leave an image as it is, or keep four bits. `negated` turns the other way, or
/// takes the factor 1 - 0.9 strength.
/// @param scratch memory for warps.
void apply_augment_op(AugmentOp op, double strength, bool negated, const WarpSettings& settings,
                      RgbImage& image, RgbImage& scratch);

/// Draws and makes the changes.
void rand_augment(const RandAugment& policy, const WarpSettings& settings, PhiloxStream& random,
                  RgbImage& image, RgbImage& scratch);

}  // namespace flex
