#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "base/philox.h"
#include "models/data/resample.h"

namespace flex {

inline constexpr std::int64_t kImagePlanes = 3;

/// What images are normalized by: (value / 255 - mean) / deviation of each channel.
struct Normalization {
  std::array<double, kImagePlanes> mean = {0.485, 0.456,
                                           0.406};  ///< of ImageNet, as published models have it
  std::array<double, kImagePlanes> deviation = {0.229, 0.224, 0.225};

  friend bool operator==(const Normalization&, const Normalization&) = default;
};

/// The mean as a colour.
[[nodiscard]] Rgb mean_colour(const Normalization& normalization);

// The functions below take planes: (3, S, S) contiguous values of float or double.

/// Writes the normalized image; `planes` has 3 height width values.
template <class T>
void write_planes(const RgbImage& image, const Normalization& normalization, std::span<T> planes);

/// With `probability` overwrites one box by N(0, 1) noise, of each value its own. Its share of the area is
/// uniform in [0.02, 1/3], its aspect between 0.3 and 1/0.3; of ten draws the first that fits is taken.
/// @source Zhong et al., "Random Erasing Data Augmentation"; values of the published Swin recipe (mode
/// pixel).
template <class T>
void erase_randomly(double probability, PhiloxStream& random, std::int64_t size, std::span<T> planes);

/// How samples 2i and 2i + 1 of the endless sequence are mixed.
struct PairMix {
  double share = 1;  ///< of each sample in its own label; the other's is 1 - share. 1: nothing is mixed
  PixelBox box{};    ///< cutmix: these pixels are exchanged; empty: mixup, all pixels are blended
};

/// Probabilities and shapes of mixing. @source Zhang et al., "mixup"; Yun et al., "CutMix".
struct MixSettings {
  double mixup = 0;           ///< parameter of the share's Beta(a, a) distribution; 0: no mixup
  double cutmix = 0;          ///< the same of cutmix's
  double probability = 1;     ///< that a pair is mixed at all
  double cutmix_share = 0.5;  ///< of the pairs mixed, where there are both

  [[nodiscard]] bool enabled() const { return (mixup > 0 || cutmix > 0) && probability > 0; }
  friend bool operator==(const MixSettings&, const MixSettings&) = default;
};

/// Draws for images of `size` x `size`. The share of cutmix is that of the pixels kept.
[[nodiscard]] PairMix draw_mix(const MixSettings& settings, std::int64_t size, PhiloxStream& random);

/// Mixes two images of `size` x `size` with each other.
template <class T>
void mix_planes(const PairMix& mix, std::int64_t size, std::span<T> first, std::span<T> second);

/// From Beta(a, a). @source Marsaglia and Tsang, "A Simple Method for Generating Gamma Variables", 2000.
[[nodiscard]] double draw_beta(double a, PhiloxStream& random);

}  // namespace flex
