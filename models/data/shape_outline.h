#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace flex {

/// A point of a shape's own plane; shapes lie within the unit circle, v points down.
struct ShapePoint {
  float u = 0;
  float v = 0;
};

/// Points with x u + y v <= offset, where (x, y) has length 1.
struct HalfPlane {
  float x = 0;
  float y = 0;
  float offset = 0;
};
/// What its half planes have in common.
struct ConvexPart {
  std::vector<HalfPlane> sides;
};
struct EllipsePart {
  ShapePoint centre;
  float radius_u = 1;
  float radius_v = 1;
};
/// A line with round ends.
struct StrokePart {
  ShapePoint from;
  ShapePoint to;
  float half_width = 0.2F;
};

/// A part of an outline, or a hole in the parts before it.
struct OutlinePart {
  std::variant<ConvexPart, EllipsePart, StrokePart> form;
  bool is_hole = false;
};

/// A shape: its parts one after the other, added or cut out.
struct ShapeOutline {
  std::string name;
  std::vector<OutlinePart> parts;
};

/// Points start + i step.
struct ShapeRow {
  ShapePoint start;
  ShapePoint step;
};

/// Distance of each point of `row` from the outline, negative inside, written to `distance`. It is exact for
/// straight sides and to first order near curved ones, which is what anti-aliasing needs. `scratch` is as
/// long as `distance`.
void outline_distances(const ShapeOutline& outline, const ShapeRow& row, std::span<float> distance,
                       std::span<float> scratch);

}  // namespace flex
