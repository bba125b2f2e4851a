#pragma once

#include <cstdint>
#include <vector>

#include "models/data/shape_outline.h"

namespace flex {

/// Shapes for which there is a name: polygons, stars, solids with arms, round ones and letters, alike ones
/// next to each other.
[[nodiscard]] std::int64_t num_named_shapes();

/// `count` different shapes. Up to num_named_shapes() they are spread evenly over the named ones; the others
/// are glyphs, strokes between the nine points of a square. Glyphs come in groups of four that have all but
/// one stroke in common.
[[nodiscard]] std::vector<ShapeOutline> shape_catalog(std::int64_t count);

}  // namespace flex
