#include "models/data/colour.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace flex {
namespace {

constexpr int kMost = 255;
constexpr std::size_t kValues = 256;
constexpr std::size_t kChannels = 3;

using ValueMap = std::array<std::uint8_t, kValues>;

std::uint8_t to_byte(double value) {
  return static_cast<std::uint8_t>(std::lround(std::clamp(value, 0.0, static_cast<double>(kMost))));
}

std::uint8_t blend(int neutral, int value, double factor) {
  return to_byte(neutral + factor * (value - neutral));
}

template <class Function>
ValueMap map_of(const Function& function) {
  ValueMap map{};
  for (int value = 0; value <= kMost; ++value) map[static_cast<std::size_t>(value)] = function(value);
  return map;
}

void map_values(RgbImage& image, const ValueMap& map) {
  for (std::uint8_t& value : image.pixels) value = map[value];
}

void map_values(RgbImage& image, std::size_t channel, const ValueMap& map) {
  for (std::size_t i = channel; i < image.pixels.size(); i += kChannels)
    image.pixels[i] = map[image.pixels[i]];
}

using Histogram = std::array<std::int64_t, kValues>;

Histogram histogram(const RgbImage& image, std::size_t channel) {
  Histogram counts{};
  for (std::size_t i = channel; i < image.pixels.size(); i += kChannels) ++counts[image.pixels[i]];
  return counts;
}

int luma_of(const std::uint8_t* pixel) { return luma(pixel[0], pixel[1], pixel[2]); }

}  // namespace

void adjust_brightness(RgbImage& image, double factor) {
  map_values(image, map_of([&](int value) { return blend(0, value, factor); }));
}

void adjust_contrast(RgbImage& image, double factor) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < image.pixels.size(); i += kChannels) sum += luma_of(&image.pixels[i]);
  const auto num_pixels = static_cast<std::int64_t>(image.pixels.size() / kChannels);
  if (num_pixels == 0) return;
  const auto mean = static_cast<int>((sum + num_pixels / 2) / num_pixels);
  map_values(image, map_of([&](int value) { return blend(mean, value, factor); }));
}

void adjust_saturation(RgbImage& image, double factor) {
  for (std::size_t i = 0; i < image.pixels.size(); i += kChannels) {
    const int grey = luma_of(&image.pixels[i]);
    for (std::size_t channel = 0; channel < kChannels; ++channel)
      image.pixels[i + channel] = blend(grey, image.pixels[i + channel], factor);
  }
}

void adjust_sharpness(RgbImage& image, double factor) {
  constexpr int kCentre = 5;
  constexpr int kSum = 13;
  const auto row_values = static_cast<std::ptrdiff_t>(image.width * static_cast<std::int64_t>(kChannels));
  const auto pixel_values = static_cast<std::ptrdiff_t>(kChannels);
  const std::vector<std::uint8_t> source = image.pixels;
  for (std::int64_t row = 1; row + 1 < image.height; ++row) {
    for (std::ptrdiff_t i = row * row_values + pixel_values; i < (row + 1) * row_values - pixel_values; ++i) {
      const std::uint8_t* centre = source.data() + i;
      int sum = (kCentre - 1) * centre[0];
      for (std::ptrdiff_t down = -row_values; down <= row_values; down += row_values)
        sum += centre[down - pixel_values] + centre[down] + centre[down + pixel_values];
      const int smooth = (sum + kSum / 2) / kSum;
      image.pixels[static_cast<std::size_t>(i)] = blend(smooth, centre[0], factor);
    }
  }
}

void solarize(RgbImage& image, int threshold) {
  map_values(image, map_of([&](int value) {
               return static_cast<std::uint8_t>(value < threshold ? value : kMost - value);
             }));
}

void solarize_add(RgbImage& image, int amount) {
  constexpr int kThreshold = 128;
  map_values(image, map_of([&](int value) {
               return static_cast<std::uint8_t>(value < kThreshold ? std::min(value + amount, kMost) : value);
             }));
}

void posterize(RgbImage& image, int bits) {
  const int mask = kMost & ~(kMost >> bits);
  map_values(image, map_of([&](int value) { return static_cast<std::uint8_t>(value & mask); }));
}

void invert(RgbImage& image) { solarize(image, 0); }

void stretch_contrast(RgbImage& image) {
  for (std::size_t channel = 0; channel < kChannels; ++channel) {
    const Histogram counts = histogram(image, channel);
    int low = 0;
    int high = kMost;
    while (low < kMost && counts[static_cast<std::size_t>(low)] == 0) ++low;
    while (high > 0 && counts[static_cast<std::size_t>(high)] == 0) --high;
    if (high <= low) continue;
    map_values(image, channel,
               map_of([&](int value) { return to_byte(1.0 * kMost * (value - low) / (high - low)); }));
  }
}

// A value's place is the number of pixels below it, in steps of 1/255 of all pixels but those of the greatest
// value, so that the least value becomes 0 and the greatest 255.
void equalize(RgbImage& image) {
  for (std::size_t channel = 0; channel < kChannels; ++channel) {
    const Histogram counts = histogram(image, channel);
    const auto last =
        std::find_if(counts.rbegin(), counts.rend(), [](std::int64_t count) { return count > 0; });
    if (last == counts.rend()) continue;
    const std::int64_t step = (static_cast<std::int64_t>(image.pixels.size() / kChannels) - *last) / kMost;
    if (step == 0) continue;
    std::int64_t below = step / 2;
    map_values(image, channel, map_of([&](int value) {
                 const std::int64_t place = std::min<std::int64_t>(below / step, kMost);
                 below += counts[static_cast<std::size_t>(value)];
                 return static_cast<std::uint8_t>(place);
               }));
  }
}

void jitter_colours(RgbImage& image, double strength, PhiloxStream& random) {
  std::array<void (*)(RgbImage&, double), 3> changes = {adjust_brightness, adjust_contrast,
                                                        adjust_saturation};
  for (std::size_t i = changes.size() - 1; i > 0; --i)
    std::swap(changes[i], changes[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(i) + 1))]);
  for (const auto& change : changes) change(image, std::max(0.0, 1 + strength * (2 * random.uniform() - 1)));
}

}  // namespace flex
