#include <algorithm>
#include <cmath>
#include <vector>

#include "models/data/resample.h"

namespace flex {
namespace {

constexpr std::int64_t kChannels = 3;

/// What one output pixel takes along one axis.
struct Tap {
  std::int64_t source;
  double weight;
};
using Taps = std::vector<std::vector<Tap>>;  // by output pixel

// The share of the interval [i scale, (i + 1) scale) that lies over each source pixel.
Taps area_taps(std::int64_t from, std::int64_t to) {
  const double scale = static_cast<double>(from) / static_cast<double>(to);
  Taps taps(static_cast<std::size_t>(to));
  for (std::int64_t i = 0; i < to; ++i) {
    const double begin = static_cast<double>(i) * scale;
    const double end = std::min(begin + scale, static_cast<double>(from));
    for (auto source = static_cast<std::int64_t>(begin); source < from && static_cast<double>(source) < end;
         ++source) {
      const double first = std::max(begin, static_cast<double>(source));
      const double last = std::min(end, static_cast<double>(source + 1));
      taps[static_cast<std::size_t>(i)].push_back({source, (last - first) / (end - begin)});
    }
  }
  return taps;
}

double kernel(double distance, Interpolation interpolation) {
  const double x = std::abs(distance);
  if (interpolation == Interpolation::kBilinear) return std::max(0.0, 1 - x);
  constexpr double kA = -0.75;
  if (x <= 1) return ((kA + 2) * x - (kA + 3)) * x * x + 1;
  if (x < 2) return ((x - 5) * x + 8) * x * kA - 4 * kA;
  return 0;
}

Taps interpolation_taps(std::int64_t from, std::int64_t to, Interpolation interpolation) {
  const double scale = static_cast<double>(from) / static_cast<double>(to);
  const std::int64_t reach = interpolation == Interpolation::kBilinear ? 1 : 2;
  Taps taps(static_cast<std::size_t>(to));
  for (std::int64_t i = 0; i < to; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale - 0.5;
    const auto below = static_cast<std::int64_t>(std::floor(centre));
    for (std::int64_t source = below - reach + 1; source <= below + reach; ++source) {
      const double weight = kernel(centre - static_cast<double>(source), interpolation);
      taps[static_cast<std::size_t>(i)].push_back({std::clamp<std::int64_t>(source, 0, from - 1), weight});
    }
  }
  return taps;
}

std::uint8_t to_byte(double value) {
  return static_cast<std::uint8_t>(std::lround(std::clamp(value, 0.0, 255.0)));
}

}  // namespace

void resize_box_plain(const RgbImage& from, const PixelBox& box, Interpolation interpolation,
                      std::int64_t height, std::int64_t width, RgbImage& to) {
  const bool grows = height > box.height || width > box.width;
  const auto taps_of = [&](std::int64_t source_size, std::int64_t target_size) {
    return grows ? interpolation_taps(source_size, target_size, interpolation)
                 : area_taps(source_size, target_size);
  };
  const Taps across = taps_of(box.width, width);
  const Taps down = taps_of(box.height, height);
  const std::int64_t row_values = width * kChannels;
  std::vector<double> rows(static_cast<std::size_t>(box.height * row_values), 0.0);
  for (std::int64_t row = 0; row < box.height; ++row) {
    const std::uint8_t* source = from.pixels.data() + ((box.top + row) * from.width + box.left) * kChannels;
    for (std::int64_t column = 0; column < width; ++column) {
      double* target = rows.data() + row * row_values + column * kChannels;
      for (const Tap& tap : across[static_cast<std::size_t>(column)]) {
        for (std::int64_t channel = 0; channel < kChannels; ++channel)
          target[channel] += tap.weight * source[tap.source * kChannels + channel];
      }
    }
  }
  to.height = height;
  to.width = width;
  to.pixels.resize(static_cast<std::size_t>(height * row_values));
  std::vector<double> sums(static_cast<std::size_t>(row_values));
  for (std::int64_t row = 0; row < height; ++row) {
    std::ranges::fill(sums, 0.0);
    for (const Tap& tap : down[static_cast<std::size_t>(row)]) {
      const double* source = rows.data() + tap.source * row_values;
      for (std::int64_t i = 0; i < row_values; ++i)
        sums[static_cast<std::size_t>(i)] += tap.weight * source[i];
    }
    std::ranges::transform(sums, to.pixels.begin() + row * row_values, to_byte);
  }
}

void warp_plain(const RgbImage& from, const AffineMap& map, const Rgb& fill, RgbImage& to) {
  to.height = from.height;
  to.width = from.width;
  to.pixels.resize(from.pixels.size());
  const auto value = [&](std::int64_t x, std::int64_t y, std::size_t channel) -> double {
    if (x < 0 || y < 0 || x >= from.width || y >= from.height) return fill[channel];
    return from.pixels[static_cast<std::size_t>((y * from.width + x) * kChannels) + channel];
  };
  std::size_t index = 0;
  for (std::int64_t row = 0; row < to.height; ++row) {
    for (std::int64_t column = 0; column < to.width; ++column) {
      const double x = map.xx * static_cast<double>(column) + map.xy * static_cast<double>(row) + map.x0;
      const double y = map.yx * static_cast<double>(column) + map.yy * static_cast<double>(row) + map.y0;
      const double left = std::floor(x);
      const double top = std::floor(y);
      const double right_share = x - left;
      const double bottom_share = y - top;
      const auto i = static_cast<std::int64_t>(left);
      const auto j = static_cast<std::int64_t>(top);
      for (std::size_t channel = 0; channel < kChannels; ++channel) {
        const double upper =
            (1 - right_share) * value(i, j, channel) + right_share * value(i + 1, j, channel);
        const double lower =
            (1 - right_share) * value(i, j + 1, channel) + right_share * value(i + 1, j + 1, channel);
        to.pixels[index++] = to_byte((1 - bottom_share) * upper + bottom_share * lower);
      }
    }
  }
}

}  // namespace flex
