#include "models/data/rand_augment.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "models/data/colour.h"

namespace flex {
namespace {

// What the greatest magnitude does. @source Cubuk et al., "AutoAugment", table 6, and timm's ranges for those
// of its changes that grow with the magnitude
constexpr double kMostDegrees = 30;
constexpr double kMostShear = 0.3;
constexpr double kMostShift = 0.45;  // of a side
constexpr double kMostFactorChange = 0.9;
constexpr double kMostAdded = 110;
constexpr double kPosterizeBits = 4;
constexpr double kValues = 256;

void warp_in_place(const AffineMap& map, const WarpSettings& settings, RgbImage& image, RgbImage& scratch) {
  warp(image, map, settings.interpolation, settings.fill, scratch);
  std::swap(image, scratch);
}

// By `radians` about the middle of the image.
AffineMap rotation(double radians, const RgbImage& image) {
  const double x = static_cast<double>(image.width - 1) / 2;
  const double y = static_cast<double>(image.height - 1) / 2;
  const double cosine = std::cos(radians);
  const double sine = std::sin(radians);
  return {.xx = cosine,
          .xy = sine,
          .x0 = x - cosine * x - sine * y,
          .yx = -sine,
          .yy = cosine,
          .y0 = y + sine * x - cosine * y};
}

}  // namespace

void apply_augment_op(AugmentOp op, double strength, bool negated, const WarpSettings& settings,
                      RgbImage& image, RgbImage& scratch) {
  const double sign = negated ? -1 : 1;
  const double factor = 1 + sign * kMostFactorChange * strength;
  const auto whole = [&](double most) { return static_cast<int>(strength * most); };
  const auto warped = [&](const AffineMap& map) { warp_in_place(map, settings, image, scratch); };
  switch (op) {
    case AugmentOp::kStretchContrast:
      return stretch_contrast(image);
    case AugmentOp::kEqualize:
      return equalize(image);
    case AugmentOp::kInvert:
      return invert(image);
    case AugmentOp::kRotate:
      return warped(rotation(sign * strength * kMostDegrees * std::numbers::pi / 180, image));
    case AugmentOp::kPosterize:
      return posterize(image, static_cast<int>(kPosterizeBits) - whole(kPosterizeBits));
    case AugmentOp::kSolarize:
      return solarize(image, static_cast<int>(kValues) - whole(kValues));
    case AugmentOp::kSolarizeAdd:
      return solarize_add(image, whole(kMostAdded));
    case AugmentOp::kSaturation:
      return adjust_saturation(image, factor);
    case AugmentOp::kContrast:
      return adjust_contrast(image, factor);
    case AugmentOp::kBrightness:
      return adjust_brightness(image, factor);
    case AugmentOp::kSharpness:
      return adjust_sharpness(image, factor);
    case AugmentOp::kShearX:
      return warped({.xy = sign * strength * kMostShear});
    case AugmentOp::kShearY:
      return warped({.yx = sign * strength * kMostShear});
    case AugmentOp::kTranslateX:
      return warped({.x0 = sign * strength * kMostShift * static_cast<double>(image.width)});
    case AugmentOp::kTranslateY:
      return warped({.y0 = sign * strength * kMostShift * static_cast<double>(image.height)});
  }
}

void rand_augment(const RandAugment& policy, const WarpSettings& settings, PhiloxStream& random,
                  RgbImage& image, RgbImage& scratch) {
  for (std::int64_t i = 0; i < policy.num_ops; ++i) {
    const auto op = static_cast<AugmentOp>(random.below(kNumAugmentOps));
    const bool is_made = random.uniform() < policy.probability;
    const double magnitude = policy.magnitude + policy.magnitude_std * random.normal();
    const bool negated = random.below(2) == 1;
    if (!is_made) continue;
    const double strength = std::clamp(magnitude / RandAugment::kMostMagnitude, 0.0, 1.0);
    apply_augment_op(op, strength, negated, settings, image, scratch);
  }
}

}  // namespace flex
