#include "models/data/image_planes.h"

#include <algorithm>
#include <cmath>

namespace flex {
namespace {

constexpr double kMostValue = 255;

template <class Change>
void for_box(const PixelBox& box, std::int64_t size, const Change& change) {
  for (std::int64_t plane = 0; plane < kImagePlanes; ++plane) {
    for (std::int64_t row = box.top; row < box.top + box.height; ++row)
      change((plane * size + row) * size + box.left, box.width);
  }
}

double draw_gamma(double shape, PhiloxStream& random) {
  if (shape < 1) {
    const double boost = std::pow(1 - random.uniform(), 1 / shape);  // 1 - u is in (0, 1]
    return draw_gamma(shape + 1, random) * boost;
  }
  const double d = shape - 1.0 / 3.0;
  const double c = 1 / std::sqrt(9 * d);
  while (true) {
    const double x = random.normal();
    const double root = 1 + c * x;
    if (root <= 0) continue;
    const double v = root * root * root;
    if (std::log(1 - random.uniform()) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
  }
}

}  // namespace

Rgb mean_colour(const Normalization& normalization) {
  Rgb colour{};
  for (std::size_t channel = 0; channel < colour.size(); ++channel)
    colour[channel] = static_cast<std::uint8_t>(
        std::lround(std::clamp(normalization.mean[channel], 0.0, 1.0) * kMostValue));
  return colour;
}

template <class T>
void write_planes(const RgbImage& image, const Normalization& normalization, std::span<T> planes) {
  const auto num_pixels = static_cast<std::size_t>(image.height * image.width);
  for (std::size_t channel = 0; channel < kImagePlanes; ++channel) {
    std::array<T, 256> values;
    for (std::size_t value = 0; value < values.size(); ++value)
      values[value] = static_cast<T>((static_cast<double>(value) / kMostValue - normalization.mean[channel]) /
                                     normalization.deviation[channel]);
    T* plane = planes.data() + channel * num_pixels;
    const std::uint8_t* source = image.pixels.data() + channel;
    for (std::size_t pixel = 0; pixel < num_pixels; ++pixel)
      plane[pixel] = values[source[kImagePlanes * pixel]];
  }
}

template <class T>
void erase_randomly(double probability, PhiloxStream& random, std::int64_t size, std::span<T> planes) {
  constexpr int kAttempts = 10;
  constexpr double kMinArea = 0.02;
  constexpr double kMaxArea = 1.0 / 3.0;
  constexpr double kMinAspect = 0.3;
  if (probability <= 0 || random.uniform() >= probability) return;
  const auto side = static_cast<double>(size);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const double area = (kMinArea + (kMaxArea - kMinArea) * random.uniform()) * side * side;
    const double aspect = std::exp(std::log(kMinAspect) * (1 - 2 * random.uniform()));
    const std::int64_t height = std::lround(std::sqrt(area * aspect));
    const std::int64_t width = std::lround(std::sqrt(area / aspect));
    if (height < 1 || width < 1 || height >= size || width >= size) continue;
    const std::int64_t top = random.below(size - height + 1);
    const std::int64_t left = random.below(size - width + 1);
    for_box({top, left, height, width}, size, [&](std::int64_t first, std::int64_t count) {
      for (std::int64_t i = first; i < first + count; ++i)
        planes[static_cast<std::size_t>(i)] = static_cast<T>(random.normal());
    });
    return;
  }
}

double draw_beta(double a, PhiloxStream& random) {
  const double first = draw_gamma(a, random);
  const double second = draw_gamma(a, random);
  return first + second > 0 ? first / (first + second) : 0.5;  // both vanish only for a tiny a
}

PairMix draw_mix(const MixSettings& settings, std::int64_t size, PhiloxStream& random) {
  if (!settings.enabled() || random.uniform() >= settings.probability) return {};
  const bool is_cutmix =
      settings.cutmix > 0 && (settings.mixup <= 0 || random.uniform() < settings.cutmix_share);
  if (!is_cutmix) return {.share = draw_beta(settings.mixup, random)};
  // A box of the drawn share of the area about a uniform centre; what lies outside of the image is lost, and
  // the share with it.
  const auto side = static_cast<double>(size);
  const auto box_side = static_cast<std::int64_t>(side * std::sqrt(1 - draw_beta(settings.cutmix, random)));
  const std::int64_t middle_row = random.below(size);
  const std::int64_t middle_column = random.below(size);
  const auto begin = [&](std::int64_t middle) {
    return std::clamp<std::int64_t>(middle - box_side / 2, 0, size);
  };
  const auto end = [&](std::int64_t middle) {
    return std::clamp<std::int64_t>(middle - box_side / 2 + box_side, 0, size);
  };
  const PixelBox box = {begin(middle_row), begin(middle_column), end(middle_row) - begin(middle_row),
                        end(middle_column) - begin(middle_column)};
  if (box.height == 0 || box.width == 0) return {};
  return {.share = 1 - static_cast<double>(box.height * box.width) / (side * side), .box = box};
}

template <class T>
void mix_planes(const PairMix& mix, std::int64_t size, std::span<T> first, std::span<T> second) {
  if (mix.share >= 1) return;
  if (mix.box.height > 0) {
    for_box(mix.box, size, [&](std::int64_t begin, std::int64_t count) {
      std::swap_ranges(first.begin() + begin, first.begin() + begin + count, second.begin() + begin);
    });
    return;
  }
  const auto own = static_cast<T>(mix.share);
  const auto other = static_cast<T>(1 - mix.share);
  for (std::size_t i = 0; i < first.size(); ++i) {
    const T a = first[i];
    const T b = second[i];
    first[i] = own * a + other * b;
    second[i] = own * b + other * a;
  }
}

template void write_planes(const RgbImage&, const Normalization&, std::span<float>);
template void write_planes(const RgbImage&, const Normalization&, std::span<double>);
template void erase_randomly(double, PhiloxStream&, std::int64_t, std::span<float>);
template void erase_randomly(double, PhiloxStream&, std::int64_t, std::span<double>);
template void mix_planes(const PairMix&, std::int64_t, std::span<float>, std::span<float>);
template void mix_planes(const PairMix&, std::int64_t, std::span<double>, std::span<double>);

}  // namespace flex
