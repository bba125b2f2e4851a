#pragma once

#include <cstdint>
#include <vector>

#include "base/philox.h"
#include "models/data/image_set.h"
#include "models/data/shape_outline.h"
#include "models/data/surface_texture.h"

namespace flex {

/// What tells the classes of a ProceduralSet apart.
struct SceneSubject {
  const ShapeOutline* outline = nullptr;
  TextureKind texture = TextureKind::kPlain;
  float hue = 0;         ///< middle of the shape's first colour, in turns of the colour circle
  float hue_spread = 0;  ///< how far it may be from there
};

/// A shape in its place, the unit circle as an ellipse of these half axes.
struct SceneObject {
  const ShapeOutline* outline = nullptr;
  SurfacePaint paint;
  float centre_x = 0;  ///< in pixels
  float centre_y = 0;
  float radius_x = 1;
  float radius_y = 1;
  float angle = 0;  ///< in radians
};

/// All that an image shows, drawn in this order.
struct ProceduralScene {
  SurfacePaint background;
  std::vector<SceneObject> objects;  ///< each over those before it
  float light_x = 0;                 ///< how much brighter it gets over the image
  float light_y = 0;
  float contrast = 1;
  float brightness = 0;  ///< added at last
  float blur = 0;        ///< weight of each neighbour, 0 to 0.25
  float noise = 0;       ///< the sensor's: standard deviation
  std::uint64_t noise_seed = 0;
};

/// What does not tell the class: place, size, turn, colours, light, background, other things in front of and
/// behind the subject, blur and noise are drawn from `random`. At `nuisance` 1 their spread is full, at 0
/// there is none, and all images of a subject are equal. `others` are shapes to draw things from.
[[nodiscard]] ProceduralScene compose_scene(const SceneSubject& subject,
                                            const std::vector<ShapeOutline>& others, std::int64_t image_size,
                                            double nuisance, PhiloxStream& random);

/// Draws `scene` into `image` (size, size, 3).
void render_scene(const ProceduralScene& scene, std::int64_t size, RgbImage& image);

}  // namespace flex
