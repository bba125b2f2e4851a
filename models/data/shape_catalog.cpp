#include "models/data/shape_catalog.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <set>
#include <utility>

#include "base/philox.h"

namespace flex {
namespace {

constexpr float kStrokeHalfWidth = 0.19F;

// Half plane left of which `inside` lies, through two points.
HalfPlane side_through(ShapePoint a, ShapePoint b, ShapePoint inside) {
  const float length = std::hypot(b.u - a.u, b.v - a.v);
  HalfPlane side{.x = (b.v - a.v) / length, .y = (a.u - b.u) / length};
  side.offset = side.x * a.u + side.y * a.v;
  if (side.x * inside.u + side.y * inside.v > side.offset)
    side = {.x = -side.x, .y = -side.y, .offset = -side.offset};
  return side;
}

ShapePoint on_circle(float radius, double turns) {
  const double angle = 2 * std::numbers::pi * turns;
  return {.u = radius * static_cast<float>(std::sin(angle)),
          .v = -radius * static_cast<float>(std::cos(angle))};
}

ConvexPart convex(const std::vector<ShapePoint>& corners) {
  ShapePoint middle;
  for (const ShapePoint& corner : corners) {
    middle.u += corner.u / static_cast<float>(corners.size());
    middle.v += corner.v / static_cast<float>(corners.size());
  }
  ConvexPart part;
  for (std::size_t i = 0; i < corners.size(); ++i)
    part.sides.push_back(side_through(corners[i], corners[(i + 1) % corners.size()], middle));
  return part;
}

ConvexPart box(float left, float top, float right, float bottom) {
  return convex({{left, top}, {right, top}, {right, bottom}, {left, bottom}});
}

// Corners on a circle, the first at `first_turn` clockwise from the top.
ConvexPart regular(int corners, float radius, double first_turn) {
  std::vector<ShapePoint> points;
  for (int i = 0; i < corners; ++i)
    points.push_back(on_circle(radius, first_turn + static_cast<double>(i) / corners));
  return convex(points);
}

// The polygon of the inner corners, and a triangle for each tip. A triangle reaches into the polygon, or else
// a seam would show: beyond an inner corner, where the star turns inwards, its sides go on inside.
ShapeOutline star(std::string name, int tips, float inner_radius) {
  constexpr float kReach = 0.1F;
  const double half_turn = 0.5 / tips;
  ShapeOutline outline{.name = std::move(name), .parts = {{.form = regular(tips, inner_radius, half_turn)}}};
  for (int i = 0; i < tips; ++i) {
    const double turn = static_cast<double>(i) / tips;
    ConvexPart tip = convex({on_circle(1, turn), on_circle(inner_radius, turn - half_turn),
                             on_circle(inner_radius, turn + half_turn)});
    tip.sides[1].offset += kReach;
    outline.parts.push_back({.form = std::move(tip)});
  }
  return outline;
}

ShapeOutline strokes(std::string name, const std::vector<std::pair<ShapePoint, ShapePoint>>& lines) {
  ShapeOutline outline{.name = std::move(name), .parts = {}};
  for (const auto& [from, to] : lines)
    outline.parts.push_back({.form = StrokePart{from, to, kStrokeHalfWidth}});
  return outline;
}

void add_solids(std::vector<ShapeOutline>& shapes) {
  constexpr float kArm = 0.32F;
  shapes.push_back({"triangle", {{.form = regular(3, 1, 0)}}});
  shapes.push_back({"square", {{.form = regular(4, 1, 1.0 / 8)}}});
  shapes.push_back({"pentagon", {{.form = regular(5, 1, 0)}}});
  shapes.push_back({"hexagon", {{.form = regular(6, 1, 0)}}});
  shapes.push_back(star("star4", 4, 0.38F));
  shapes.push_back(star("star5", 5, 0.42F));
  shapes.push_back(star("star6", 6, 0.52F));
  shapes.push_back(star("star8", 8, 0.6F));
  shapes.push_back({"cross", {{.form = box(-kArm, -1, kArm, 1)}, {.form = box(-1, -kArm, 1, kArm)}}});
  shapes.push_back(
      {"arrow",
       {{.form = convex({{0, -1}, {0.8F, 0}, {-0.8F, 0}})}, {.form = box(-kArm, -0.2F, kArm, 0.95F)}}});
  shapes.push_back({"house",
                    {{.form = convex({{0, -1}, {0.85F, -0.1F}, {-0.85F, -0.1F}})},
                     {.form = box(-0.6F, -0.2F, 0.6F, 0.8F)}}});
}

void add_round_shapes(std::vector<ShapeOutline>& shapes) {
  const EllipsePart disc;
  shapes.push_back({"ellipse", {{.form = EllipsePart{{}, 0.6F, 1}}}});
  shapes.push_back({"ring", {{.form = disc}, {.form = EllipsePart{{}, 0.5F, 0.5F}, .is_hole = true}}});
  shapes.push_back(
      {"crescent", {{.form = disc}, {.form = EllipsePart{{0.45F, 0}, 0.75F, 0.75F}, .is_hole = true}}});
  shapes.push_back({"frame",
                    {{.form = box(-0.8F, -0.8F, 0.8F, 0.8F)},
                     {.form = box(-0.36F, -0.36F, 0.36F, 0.36F), .is_hole = true}}});
}

void add_letters(std::vector<ShapeOutline>& shapes) {
  constexpr float kX = 0.55F;  // of a letter's outer strokes
  constexpr float kY = 0.75F;
  const ShapePoint top_left{-kX, -kY};
  const ShapePoint top_right{kX, -kY};
  const ShapePoint bottom_left{-kX, kY};
  const ShapePoint bottom_right{kX, kY};
  const std::pair left{top_left, bottom_left};
  const std::pair top{top_left, top_right};
  const std::pair bottom{bottom_left, bottom_right};
  const std::pair right{top_right, bottom_right};
  const std::pair<ShapePoint, ShapePoint> middle{{-kX, 0}, {kX, 0}};
  shapes.push_back(strokes("T", {top, {{0, -kY}, {0, kY}}}));
  shapes.push_back(strokes("L", {left, bottom}));
  shapes.push_back(strokes("F", {left, top, middle}));
  shapes.push_back(strokes("E", {left, top, middle, bottom}));
  shapes.push_back(strokes("H", {left, middle, right}));
  shapes.push_back(strokes("N", {left, {top_left, bottom_right}, right}));
  shapes.push_back(strokes("Z", {top, {top_right, bottom_left}, bottom}));
  shapes.push_back(strokes("V", {{top_left, {0, kY}}, {{0, kY}, top_right}}));
  shapes.push_back(strokes("K", {left, {{-kX, 0}, top_right}, {{-kX, 0}, bottom_right}}));
}

std::vector<ShapeOutline> named_shapes() {
  std::vector<ShapeOutline> shapes;
  add_solids(shapes);
  add_round_shapes(shapes);
  add_letters(shapes);
  return shapes;
}

using GlyphStroke = std::pair<std::int64_t, std::int64_t>;  // two of nine points, the lower number first

// Whether there is a third point on it: then two strokes could cover a third, and glyphs look alike.
bool passes_a_point(const GlyphStroke& stroke) {
  const auto& [from, to] = stroke;
  return (to % 3 - from % 3) % 2 == 0 && (to / 3 - from / 3) % 2 == 0;
}

GlyphStroke draw_stroke(PhiloxStream& random) {
  constexpr std::int64_t kNumPoints = 9;
  GlyphStroke stroke;
  do {
    const std::int64_t from = random.below(kNumPoints);
    stroke = std::minmax(from, (from + 1 + random.below(kNumPoints - 1)) % kNumPoints);
  } while (passes_a_point(stroke));
  return stroke;
}

std::set<GlyphStroke> draw_glyph(PhiloxStream& random, std::set<GlyphStroke> common) {
  constexpr std::size_t kNumCommon = 3;
  while (common.size() < kNumCommon) common.insert(draw_stroke(random));
  return common;
}

ShapePoint grid_point(std::int64_t index) {
  constexpr float kPitch = 0.65F;
  const std::int64_t row = index / 3;
  const std::int64_t column = index % 3;
  return {.u = kPitch * static_cast<float>(column - 1), .v = kPitch * static_cast<float>(row - 1)};
}

void add_glyphs(std::int64_t count, std::vector<ShapeOutline>& shapes) {
  constexpr std::uint64_t kGlyphSeed = 0x676C797068;  // the same shapes for every set
  constexpr std::int64_t kGroup = 4;
  PhiloxStream random(kGlyphSeed);
  std::set<std::set<GlyphStroke>> known;
  std::set<GlyphStroke> common;
  for (std::int64_t i = 0; i < count; ++i) {
    if (i % kGroup == 0) common = draw_glyph(random, {});
    std::set<GlyphStroke> glyph = common;
    while (glyph.size() == common.size() || known.contains(glyph)) {
      glyph = common;
      glyph.insert(draw_stroke(random));
    }
    known.insert(glyph);
    std::vector<std::pair<ShapePoint, ShapePoint>> lines;
    for (const auto& [from, to] : glyph) lines.emplace_back(grid_point(from), grid_point(to));
    shapes.push_back(strokes("glyph" + std::to_string(i + 1), lines));
  }
}

}  // namespace

std::int64_t num_named_shapes() { return static_cast<std::int64_t>(named_shapes().size()); }

std::vector<ShapeOutline> shape_catalog(std::int64_t count) {
  std::vector<ShapeOutline> named = named_shapes();
  const auto num_named = static_cast<std::int64_t>(named.size());
  if (count >= num_named) {
    add_glyphs(count - num_named, named);
    return named;
  }
  std::vector<ShapeOutline> spread;
  for (std::int64_t i = 0; i < count; ++i)
    spread.push_back(std::move(named[static_cast<std::size_t>(i * num_named / count)]));
  return spread;
}

}  // namespace flex
