#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/philox.h"

namespace flex {

/// How two colours are spread over a surface.
enum class TextureKind : std::uint8_t {
  kPlain,
  kStriped,
  kChecked,
  kDotted,
  kCloudy,
  kRinged,
  kRuled,
  kGrainy
};
inline constexpr std::int64_t kNumTextureKinds = 8;

/// plain, striped, checked, dotted, cloudy, ringed, ruled (fine stripes), grainy (fine clouds).
[[nodiscard]] std::string_view name(TextureKind kind);

/// Colours as 0 (black) to 1.
struct SceneColour {
  float red = 0;
  float green = 0;
  float blue = 0;
};

/// What covers an object or the background.
struct SurfacePaint {
  TextureKind kind = TextureKind::kPlain;
  SceneColour first;
  SceneColour second;
  float period_px = 8;  ///< of stripes; others go by it
  float angle = 0;      ///< of the texture's axes, in radians
  float phase_x = 0;    ///< where the texture begins, in periods
  float phase_y = 0;
  std::uint64_t noise_seed = 0;
};

/// One surface's texture, read row by row.
class SurfaceTexture {
 public:
  /// The texture has its origin at (`origin_x`, `origin_y`) pixels.
  SurfaceTexture(const SurfacePaint& paint, float origin_x, float origin_y);

  /// Share of the second colour, 0 to 1, at pixels (x + i, y).
  void shares(std::int64_t x, std::int64_t y, std::span<float> out) const;

 private:
  static constexpr int kLattice = 16;  // values of the noise in each direction, which then repeats

  TextureKind kind_;
  float sharpness_;  // how steep edges are, so that they are about a pixel wide
  float axis_x_, axis_y_, start_u_, start_v_;
  float lattice_[(kLattice + 1) * (kLattice + 1)] = {};
};

}  // namespace flex
