#include <algorithm>
#include <cmath>
#include <numbers>

#include "models/data/procedural_scene.h"

namespace flex {
namespace {

// Draws around a middle. Every draw is made whatever the nuisance, so that a picture changes smoothly with
// it.
class NuisanceDraws {
 public:
  NuisanceDraws(double nuisance, PhiloxStream& random)
      : nuisance_(static_cast<float>(nuisance)), random_(random) {}

  float about(float middle, float spread) { return middle + nuisance_ * spread * signed_uniform(); }
  /// From 0 up.
  float up_to(float most) { return nuisance_ * most * uniform(); }
  bool happens(float probability) { return uniform() < nuisance_ * probability; }
  std::int64_t below(std::int64_t bound) { return random_.below(bound); }
  /// Always the same without nuisance.
  std::uint64_t seed() {
    const std::uint64_t drawn = random_.next_u64();
    return nuisance_ > 0 ? drawn : 0;
  }

 private:
  float uniform() {
    constexpr float kTwoToMinus24 = 1.0F / 16777216.0F;
    return static_cast<float>(random_.next_u32() >> 8) * kTwoToMinus24;
  }
  float signed_uniform() { return 2 * uniform() - 1; }

  float nuisance_;
  PhiloxStream& random_;
};

constexpr float kPi = std::numbers::pi_v<float>;

// @source the usual hexcone model of hue, saturation and value
SceneColour colour_of(float hue, float saturation, float value) {
  const float turn = 6 * (hue - std::floor(hue));
  const auto channel = [&](float at) {
    const float away = std::fabs(std::fmod(turn - at + 9, 6.0F) - 3);  // in sixths of a turn
    return value * (1 - saturation * std::clamp(away - 1, 0.0F, 1.0F));
  };
  return {.red = channel(0), .green = channel(2), .blue = channel(4)};
}

void paint_texture(NuisanceDraws& draws, float period_px, SurfacePaint& paint) {
  paint.period_px = draws.about(period_px, 0.2F * period_px);
  paint.angle = draws.about(kPi / 4, kPi / 2);
  paint.phase_x = draws.about(0, 0.5F);
  paint.phase_y = draws.about(0, 0.5F);
  paint.noise_seed = draws.seed();
}

// A texture that is too weak to be mistaken for the subject's.
SurfacePaint draw_background(NuisanceDraws& draws, float value, float size) {
  constexpr float kWeak = 0.12F;
  SurfacePaint paint;
  const auto kind = draws.below(kNumTextureKinds);
  if (draws.happens(0.7F)) paint.kind = static_cast<TextureKind>(kind);
  const float hue = draws.about(0.6F, 0.5F);
  const float saturation = draws.about(0.3F, 0.3F);
  paint.first = colour_of(hue, saturation, value);
  paint.second = colour_of(draws.about(hue, 0.1F), saturation, value + draws.about(0, kWeak));
  paint_texture(draws, draws.about(0.15F, 0.07F) * size, paint);
  return paint;
}

// Its colours differ in value from the background and from each other.
SurfacePaint draw_surface(const SceneSubject& subject, NuisanceDraws& draws, float background,
                          float radius_px) {
  constexpr float kPeriod = 0.5F;  // in radii of the shape
  const float direction = background > 0.5F ? -1.0F : 1.0F;
  SurfacePaint paint{.kind = subject.texture, .first = {}, .second = {}};
  const float hue = draws.about(subject.hue, subject.hue_spread);
  const float first = background + direction * draws.about(0.45F, 0.12F);
  const float second = first - direction * draws.about(0.5F, 0.12F);
  const float saturation = draws.about(0.65F, 0.3F);
  paint.first = colour_of(hue, saturation, std::clamp(first, 0.02F, 1.0F));
  paint.second = colour_of(draws.about(hue, 0.3F), saturation, std::clamp(second, 0.0F, 1.0F));
  paint_texture(draws, kPeriod * radius_px, paint);
  return paint;
}

SceneObject draw_other(const std::vector<ShapeOutline>& others, NuisanceDraws& draws, float size) {
  SceneObject object;
  object.outline = &others[static_cast<std::size_t>(draws.below(static_cast<std::int64_t>(others.size())))];
  object.radius_x = draws.about(0.09F, 0.04F) * size;
  object.radius_y = object.radius_x;
  object.centre_x = draws.about(0.5F, 0.5F) * size;
  object.centre_y = draws.about(0.5F, 0.5F) * size;
  object.angle = draws.about(0, kPi);
  object.paint.first = colour_of(draws.about(0.5F, 0.5F), draws.about(0.5F, 0.4F), draws.about(0.5F, 0.4F));
  return object;
}

// A bar across part of the subject.
SceneObject draw_bar(const SceneObject& subject, NuisanceDraws& draws) {
  static const ShapeOutline kBar{.name = "bar", .parts = {{.form = StrokePart{{-1, 0}, {1, 0}, 1}}}};
  SceneObject bar;
  bar.outline = &kBar;
  bar.radius_y = draws.about(0.12F, 0.05F) * subject.radius_x;
  bar.radius_x = draws.about(1.0F, 0.4F) * subject.radius_x;
  bar.centre_x = subject.centre_x + draws.about(0, 0.7F) * subject.radius_x;
  bar.centre_y = subject.centre_y + draws.about(0, 0.7F) * subject.radius_y;
  bar.angle = draws.about(0, kPi);
  bar.paint.first = colour_of(draws.about(0.5F, 0.5F), draws.about(0.4F, 0.4F), draws.about(0.5F, 0.4F));
  return bar;
}

SceneObject draw_subject(const SceneSubject& subject, NuisanceDraws& draws, float background, float size) {
  SceneObject object;
  object.outline = subject.outline;
  const float radius = draws.about(0.3F, 0.09F) * size;
  const float stretch = draws.about(1, 0.15F);
  object.radius_x = radius * stretch;
  object.radius_y = radius / stretch;
  const float room = 0.5F * size - 0.85F * radius;  // corners may leave the image a little
  object.centre_x = draws.about(0.5F * size, room);
  object.centre_y = draws.about(0.5F * size, room);
  object.angle = draws.about(0, 0.12F * kPi);
  object.paint = draw_surface(subject, draws, background, radius);
  return object;
}

}  // namespace

ProceduralScene compose_scene(const SceneSubject& subject, const std::vector<ShapeOutline>& others,
                              std::int64_t image_size, double nuisance, PhiloxStream& random) {
  constexpr int kMostOthers = 3;
  const auto size = static_cast<float>(image_size);
  NuisanceDraws draws(nuisance, random);
  ProceduralScene scene;
  const float background = draws.about(0.45F, 0.4F);
  scene.background = draw_background(draws, background, size);
  for (int i = 0; i < kMostOthers; ++i) {
    const SceneObject other = draw_other(others, draws, size);
    if (draws.happens(0.6F)) scene.objects.push_back(other);
  }
  const SceneObject object = draw_subject(subject, draws, background, size);
  scene.objects.push_back(object);
  const SceneObject bar = draw_bar(object, draws);
  if (draws.happens(0.35F)) scene.objects.push_back(bar);
  scene.light_x = draws.about(0, 0.35F);
  scene.light_y = draws.about(0, 0.35F);
  scene.contrast = draws.about(0.9F, 0.25F);
  scene.brightness = draws.about(0, 0.08F);
  scene.blur = draws.up_to(0.22F);
  scene.noise = draws.up_to(0.08F);
  scene.noise_seed = draws.seed();
  return scene;
}

}  // namespace flex
