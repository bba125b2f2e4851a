#include <algorithm>
#include <cmath>
#include <span>

#include "models/data/procedural_scene.h"

namespace flex {
namespace {

constexpr std::int64_t kNumChannels = 3;

// An image as three planes of floats, which loops run over best.
class SceneCanvas {
 public:
  explicit SceneCanvas(std::int64_t size)
      : size_(size),
        planes_(static_cast<std::size_t>(kNumChannels * size * size)),
        share_(static_cast<std::size_t>(size)),
        coverage_(static_cast<std::size_t>(size)),
        scratch_(static_cast<std::size_t>(size)) {}

  void fill(const SurfacePaint& paint);
  void draw(const SceneObject& object);
  void light(const ProceduralScene& scene);
  void blur(float weight);
  void write(const ProceduralScene& scene, RgbImage& image) const;

 private:
  [[nodiscard]] std::span<float> row(std::int64_t channel, std::int64_t y) {
    return {&planes_[static_cast<std::size_t>((channel * size_ + y) * size_)],
            static_cast<std::size_t>(size_)};
  }
  [[nodiscard]] const float* row(std::int64_t channel, std::int64_t y) const {
    return &planes_[static_cast<std::size_t>((channel * size_ + y) * size_)];
  }
  void draw_row(const SceneObject& object, const SurfaceTexture& texture, std::int64_t y);

  std::int64_t size_;
  std::vector<float> planes_;
  std::vector<float> share_, coverage_, scratch_;
};

void SceneCanvas::fill(const SurfacePaint& paint) {
  const SurfaceTexture texture(paint, 0, 0);
  const SceneColour& a = paint.first;
  const SceneColour& b = paint.second;
  for (std::int64_t y = 0; y < size_; ++y) {
    texture.shares(0, y, share_);
    const auto blend = [&](std::span<float> out, float from, float to) {
      for (std::size_t i = 0; i < out.size(); ++i) out[i] = from + share_[i] * (to - from);
    };
    blend(row(0, y), a.red, b.red);
    blend(row(1, y), a.green, b.green);
    blend(row(2, y), a.blue, b.blue);
  }
}

void SceneCanvas::draw(const SceneObject& object) {
  const SurfaceTexture texture(object.paint, object.centre_x, object.centre_y);
  const float reach = 1.5F * std::max(object.radius_x, object.radius_y) + 1;  // letters' corners included
  const auto first = std::max<std::int64_t>(0, static_cast<std::int64_t>(object.centre_y - reach));
  const auto last = std::min(size_ - 1, static_cast<std::int64_t>(object.centre_y + reach));
  for (std::int64_t y = first; y <= last; ++y) draw_row(object, texture, y);
}

void SceneCanvas::draw_row(const SceneObject& object, const SurfaceTexture& texture, std::int64_t y) {
  const float reach = 1.5F * std::max(object.radius_x, object.radius_y) + 1;
  const auto first = std::max<std::int64_t>(0, static_cast<std::int64_t>(object.centre_x - reach));
  const auto last = std::min(size_ - 1, static_cast<std::int64_t>(object.centre_x + reach));
  if (last < first) return;
  const auto count = static_cast<std::size_t>(last - first + 1);
  const float cosine = std::cos(object.angle);
  const float sine = std::sin(object.angle);
  const float x_px = static_cast<float>(first) + 0.5F - object.centre_x;
  const float y_px = static_cast<float>(y) + 0.5F - object.centre_y;
  const ShapeRow points{.start = {.u = (cosine * x_px + sine * y_px) / object.radius_x,
                                  .v = (cosine * y_px - sine * x_px) / object.radius_y},
                        .step = {.u = cosine / object.radius_x, .v = -sine / object.radius_y}};
  const std::span<float> coverage = std::span(coverage_).first(count);
  const std::span<float> share = std::span(share_).first(count);
  outline_distances(*object.outline, points, coverage, std::span(scratch_).first(count));
  texture.shares(first, y, share);
  // Edges are a pixel wide.
  const float pixels = std::min(object.radius_x, object.radius_y);
  for (float& value : coverage) {
    const float inside = 0.5F - value * pixels;
    const float positive = inside < 0 ? 0 : inside;
    value = positive > 1 ? 1 : positive;
  }
  const auto blend = [&](std::span<float> out, float from, float to) {
    for (std::size_t i = 0; i < count; ++i) {
      const float colour = from + share[i] * (to - from);
      out[i] += coverage[i] * (colour - out[i]);
    }
  };
  const auto part = [&](std::int64_t channel) {
    return row(channel, y).subspan(static_cast<std::size_t>(first), count);
  };
  blend(part(0), object.paint.first.red, object.paint.second.red);
  blend(part(1), object.paint.first.green, object.paint.second.green);
  blend(part(2), object.paint.first.blue, object.paint.second.blue);
}

void SceneCanvas::light(const ProceduralScene& scene) {
  const float step = scene.light_x / static_cast<float>(size_);
  for (std::int64_t channel = 0; channel < kNumChannels; ++channel) {
    for (std::int64_t y = 0; y < size_; ++y) {
      const float down = (static_cast<float>(y) + 0.5F) / static_cast<float>(size_) - 0.5F;
      const float first = scene.contrast * (1 + scene.light_y * down - 0.5F * scene.light_x);
      const float slope = scene.contrast * step;
      const std::span<float> out = row(channel, y);
      for (std::size_t i = 0; i < out.size(); ++i)
        out[i] *= first + slope * static_cast<float>(static_cast<int>(i));
    }
  }
}

// Three by three, a row and then a column; the border stays as it is.
void SceneCanvas::blur(float weight) {
  const float middle = 1 - 2 * weight;
  const auto last = static_cast<std::size_t>(size_ - 1);
  for (std::int64_t channel = 0; channel < kNumChannels; ++channel) {
    for (std::int64_t y = 0; y < size_; ++y) {
      const std::span<float> out = row(channel, y);
      std::ranges::copy(out, scratch_.begin());
      for (std::size_t i = 1; i < last; ++i)
        out[i] = middle * scratch_[i] + weight * (scratch_[i - 1] + scratch_[i + 1]);
    }
    std::ranges::copy(row(channel, 0), scratch_.begin());  // the row above, as it was
    for (std::int64_t y = 1; y + 1 < size_; ++y) {
      const std::span<float> out = row(channel, y);
      const std::span<float> below = row(channel, y + 1);
      for (std::size_t i = 0; i < out.size(); ++i) {
        const float before = out[i];
        out[i] = middle * before + weight * (scratch_[i] + below[i]);
        scratch_[i] = before;
      }
    }
  }
}

// The sum of two bytes of a hash has a triangular distribution, whose deviation is kByteDeviation.
void SceneCanvas::write(const ProceduralScene& scene, RgbImage& image) const {
  constexpr float kByteDeviation = 104.5F;
  constexpr float kWhite = 255;
  image.height = size_;
  image.width = size_;
  image.pixels.resize(static_cast<std::size_t>(size_ * size_ * kNumChannels));
  const float scale = scene.noise * kWhite / kByteDeviation;
  const float offset = kWhite * scene.brightness + 0.5F - kWhite * scale;
  std::uint8_t* out = image.pixels.data();
  std::uint64_t counter = scene.noise_seed;
  for (std::int64_t y = 0; y < size_; ++y) {
    for (std::int64_t x = 0; x < size_; ++x) {
      std::uint64_t bytes = splitmix64(counter++);
      for (std::int64_t channel = 0; channel < kNumChannels; ++channel) {
        const auto noise = static_cast<int>((bytes & 0xFF) + ((bytes >> 8) & 0xFF));
        bytes >>= 16;
        const float value = kWhite * row(channel, y)[x] + scale * static_cast<float>(noise) + offset;
        *out++ = static_cast<std::uint8_t>(static_cast<int>(std::clamp(value, 0.0F, kWhite)));
      }
    }
  }
}

}  // namespace

void render_scene(const ProceduralScene& scene, std::int64_t size, RgbImage& image) {
  SceneCanvas canvas(size);
  canvas.fill(scene.background);
  for (const SceneObject& object : scene.objects) canvas.draw(object);
  canvas.light(scene);
  canvas.blur(scene.blur);
  canvas.write(scene, image);
}

}  // namespace flex
