#include "models/data/surface_texture.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace flex {
namespace {

constexpr float kEverPositive = 1024;  // periods; makes truncation a floor

float fraction(float value) {
  const float positive = value + kEverPositive;
  return positive - static_cast<float>(static_cast<int>(positive));
}

float clamped(float value) {
  const float positive = value < 0 ? 0 : value;
  return positive > 1 ? 1 : positive;
}

// -1 to 1, with the period 1.
float triangle_wave(float value) { return 1 - 4 * std::fabs(fraction(value) - 0.5F); }

float octagon_radius(float u, float v) {
  constexpr float kDiagonal = 0.70710678F;
  const float a = std::fabs(u);
  const float b = std::fabs(v);
  const float longest = a < b ? b : a;
  const float across = (a + b) * kDiagonal;
  return longest < across ? across : longest;
}

// Texture periods over the paint's.
float relative_period(TextureKind kind) {
  switch (kind) {
    case TextureKind::kChecked:
      return 1.3F;
    case TextureKind::kCloudy:
      return 0.9F;
    case TextureKind::kRinged:
      return 0.8F;
    case TextureKind::kRuled:
      return 0.5F;
    case TextureKind::kGrainy:
      return 0.25F;
    default:
      return 1.0F;
  }
}

// Calls share(u, v) for each pixel of a row, a loop of its own for each texture.
template <class Share>
void fill_row(float u, float v, float step_u, float step_v, std::span<float> out, const Share& share) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto place = static_cast<float>(static_cast<int>(i));
    out[i] = share(u + step_u * place, v + step_v * place);
  }
}

}  // namespace

std::string_view name(TextureKind kind) {
  static constexpr std::array<std::string_view, kNumTextureKinds> kNames = {
      "plain", "striped", "checked", "dotted", "cloudy", "ringed", "ruled", "grainy"};
  return kNames.at(static_cast<std::size_t>(kind));
}

SurfaceTexture::SurfaceTexture(const SurfacePaint& paint, float origin_x, float origin_y)
    : kind_(paint.kind) {
  // A texture finer than this would be lost between pixels.
  constexpr float kLeastPeriodPx = 2;
  const float period_px = std::max(kLeastPeriodPx, paint.period_px * relative_period(paint.kind));
  sharpness_ = period_px / 4;
  axis_x_ = std::cos(paint.angle) / period_px;
  axis_y_ = std::sin(paint.angle) / period_px;
  start_u_ = paint.phase_x - origin_x * axis_x_ - origin_y * axis_y_;
  start_v_ = paint.phase_y + origin_x * axis_y_ - origin_y * axis_x_;
  if (kind_ != TextureKind::kCloudy && kind_ != TextureKind::kGrainy) return;
  constexpr float kTwoToMinus32 = 1.0F / 4294967296.0F;
  PhiloxStream random(paint.noise_seed);
  const auto at = [&](int row, int column) -> float& { return lattice_[row * (kLattice + 1) + column]; };
  for (int row = 0; row < kLattice; ++row) {
    for (int column = 0; column < kLattice; ++column)
      at(row, column) = static_cast<float>(random.next_u32()) * kTwoToMinus32;
    at(row, kLattice) = at(row, 0);
  }
  for (int column = 0; column <= kLattice; ++column) at(kLattice, column) = at(0, column);
}

void SurfaceTexture::shares(std::int64_t x, std::int64_t y, std::span<float> out) const {
  const float u = start_u_ + static_cast<float>(x) * axis_x_ + static_cast<float>(y) * axis_y_;
  const float v = start_v_ - static_cast<float>(x) * axis_y_ + static_cast<float>(y) * axis_x_;
  const auto fill = [&](const auto& share) { fill_row(u, v, axis_x_, -axis_y_, out, share); };
  const float sharpness = sharpness_;
  switch (kind_) {
    case TextureKind::kPlain:
      std::ranges::fill(out, 0.0F);
      break;
    case TextureKind::kStriped:
    case TextureKind::kRuled:
      fill([=](float a, float) { return clamped(0.5F + sharpness * triangle_wave(a)); });
      break;
    case TextureKind::kChecked:
      fill([=](float a, float b) {
        const float wave_a = clamped(0.5F + sharpness * triangle_wave(a)) - 0.5F;
        const float wave_b = clamped(0.5F + sharpness * triangle_wave(b)) - 0.5F;
        return 0.5F + 2 * wave_a * wave_b;
      });
      break;
    case TextureKind::kDotted:
      fill([=](float a, float b) {
        constexpr float kDotSquare = 0.1F;  // of the radius, in periods
        const float off_a = fraction(a) - 0.5F;
        const float off_b = fraction(b) - 0.5F;
        return clamped(0.5F + 6 * sharpness * (kDotSquare - off_a * off_a - off_b * off_b));
      });
      break;
    case TextureKind::kRinged:
      fill([=](float a, float b) { return clamped(0.5F + sharpness * triangle_wave(octagon_radius(a, b))); });
      break;
    case TextureKind::kCloudy:
    case TextureKind::kGrainy:
      fill([this](float a, float b) {
        // Values of a lattice in between, spread to use all of 0 to 1.
        constexpr float kSpread = 2;
        const float place_a = a + kEverPositive;
        const float place_b = b + kEverPositive;
        const auto whole_a = static_cast<int>(place_a);
        const auto whole_b = static_cast<int>(place_b);
        const float share_a = place_a - static_cast<float>(whole_a);
        const float share_b = place_b - static_cast<float>(whole_b);
        const float* cell = lattice_ + (whole_b % kLattice) * (kLattice + 1) + whole_a % kLattice;
        const float above = cell[0] + share_a * (cell[1] - cell[0]);
        const float below = cell[kLattice + 1] + share_a * (cell[kLattice + 2] - cell[kLattice + 1]);
        return clamped(0.5F + kSpread * (above + share_b * (below - above) - 0.5F));
      });
      break;
  }
}

}  // namespace flex
