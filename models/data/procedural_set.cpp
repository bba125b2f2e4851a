#include "models/data/procedural_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/require.h"
#include "models/data/shape_catalog.h"

namespace flex {
namespace {

struct ScenePalette {
  std::string name;
  float hue = 0;
  float spread = 0;
};

// One palette of all hues, or two that a colour tells apart.
std::vector<ScenePalette> palettes_for(std::int64_t num_classes) {
  if (num_classes < ProceduralSet::kClassesWithPalettes) return {{.name = "", .hue = 0.08F, .spread = 0.5F}};
  return {{.name = "warm ", .hue = 0.05F, .spread = 0.11F}, {.name = "cool ", .hue = 0.55F, .spread = 0.11F}};
}

// Four shapes to a texture: both axes grow as there are more classes.
std::int64_t num_textures_for(std::int64_t num_looks) {
  const auto square_root = std::sqrt(static_cast<double>(num_looks) / 4);
  return std::clamp<std::int64_t>(std::lround(square_root), 1, kNumTextureKinds);
}

}  // namespace

ProceduralSet::ProceduralSet(const ProceduralSetOptions& options)
    : options_(options), key_(splitmix64(splitmix64(options.seed) ^ options.split)) {
  require(options.num_images >= 1, "procedural images: num_images is {}; it is at least 1",
          options.num_images);
  require(options.num_classes >= 1 && options.num_classes <= kMostClasses,
          "procedural images: num_classes is {}; it is 1 to {}", options.num_classes, kMostClasses);
  require(options.image_size >= kLeastSize, "procedural images: image_size is {}; it is at least {}",
          options.image_size, kLeastSize);
  require(options.nuisance >= 0 && options.nuisance <= 1, "procedural images: nuisance is {}; it is 0 to 1",
          options.nuisance);
  const std::vector<ScenePalette> palettes = palettes_for(options.num_classes);
  const auto num_palettes = static_cast<std::int64_t>(palettes.size());
  const std::int64_t num_looks = (options.num_classes + num_palettes - 1) / num_palettes;
  const std::int64_t num_textures = num_textures_for(num_looks);
  shapes_ = shape_catalog((num_looks + num_textures - 1) / num_textures);
  for (const ShapeOutline& shape : shapes_) {
    for (std::int64_t texture = 0; texture < num_textures; ++texture) {
      for (const ScenePalette& palette : palettes) {
        if (static_cast<std::int64_t>(subjects_.size()) == options.num_classes) return;
        const auto kind = static_cast<TextureKind>(texture);
        subjects_.push_back(
            {.outline = &shape, .texture = kind, .hue = palette.hue, .hue_spread = palette.spread});
        names_.push_back(fmt::format("{}{} {}", palette.name, shape.name, name(kind)));
      }
    }
  }
}

std::int32_t ProceduralSet::label(std::int64_t index) const {
  check(index);
  // Runs of all classes, each beginning with another one.
  constexpr std::uint64_t kLabelSalt = 0x6C6162656C;
  const std::int64_t run = index / options_.num_classes;
  PhiloxStream random(splitmix64(key_ ^ kLabelSalt), static_cast<std::uint64_t>(run));
  return static_cast<std::int32_t>((index + random.below(options_.num_classes)) % options_.num_classes);
}

std::string ProceduralSet::where(std::int64_t index) const {
  return fmt::format("procedural image {} of seed {}, split {}", index, options_.seed, options_.split);
}

std::int64_t ProceduralSet::shape_of(std::int32_t label) const {
  return subjects_.at(static_cast<std::size_t>(label)).outline - shapes_.data();
}

void ProceduralSet::read(std::int64_t index, std::int64_t /*least_side*/, RgbImage& image) const {
  const SceneSubject& subject = subjects_[static_cast<std::size_t>(label(index))];
  PhiloxStream random(key_, static_cast<std::uint64_t>(index));
  const ProceduralScene scene =
      compose_scene(subject, shapes_, options_.image_size, options_.nuisance, random);
  render_scene(scene, options_.image_size, image);
}

void ProceduralSet::check(std::int64_t index) const {
  require(index >= 0 && index < options_.num_images, "procedural image {}; the set has 0 to {}", index,
          options_.num_images - 1);
}

}  // namespace flex
