#include "models/data/augment.h"

#include <algorithm>

#include "models/data/colour.h"

namespace flex {

AugmentConfig AugmentConfig::none() { return {}; }

AugmentConfig AugmentConfig::light() {
  AugmentConfig config;
  config.random_crop = true;
  config.crop.min_area = 0.25;
  config.flip = 0.5;
  return config;
}

AugmentConfig AugmentConfig::swin() {
  AugmentConfig config;
  config.random_crop = true;
  config.flip = 0.5;
  config.rand_augment.num_ops = 2;
  config.erase = 0.25;
  config.mix = {.mixup = 0.8, .cutmix = 1.0, .probability = 1.0, .cutmix_share = 0.5};
  return config;
}

PhiloxStream sample_stream(const SampleKey& key) {
  // Epochs differ in the key, images in the counter: no two samples share numbers.
  constexpr std::uint64_t kSamples = 0x73616D706C650000U;  // keeps them from other users of the seed
  const std::uint64_t of_seed = splitmix64(splitmix64(key.seed) ^ kSamples);
  return PhiloxStream(splitmix64(of_seed ^ static_cast<std::uint64_t>(key.epoch)),
                      static_cast<std::uint64_t>(key.image));
}

void flip_horizontally(RgbImage& image) {
  constexpr std::int64_t kChannels = 3;
  for (std::int64_t row = 0; row < image.height; ++row) {
    std::uint8_t* left = image.pixels.data() + row * image.width * kChannels;
    std::uint8_t* right = left + (image.width - 1) * kChannels;
    for (; left < right; left += kChannels, right -= kChannels)
      std::swap_ranges(left, left + kChannels, right);
  }
}

void SampleMaker::cut(const PixelBox& box) {
  resize_box(image_, box, config_.interpolation, size_, size_, sample_);
}

void SampleMaker::change_pixels(PhiloxStream& random) {
  if (random.uniform() < config_.flip) flip_horizontally(sample_);
  if (config_.colour_jitter > 0) jitter_colours(sample_, config_.colour_jitter, random);
  const WarpSettings settings = {config_.interpolation, mean_colour(config_.normalization)};
  rand_augment(config_.rand_augment, settings, random, sample_, scratch_);
}

}  // namespace flex
