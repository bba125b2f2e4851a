#include "models/data/shape_outline.h"

#include <algorithm>

namespace flex {
namespace {

constexpr float kFarAway = 1e3F;  // in units of a shape

// Loops are plain and free of calls so that the compiler makes vector code of them.
void distances_to(const ConvexPart& part, const ShapeRow& row, std::span<float> out) {
  std::ranges::fill(out, -kFarAway);
  for (const HalfPlane& side : part.sides) {
    const float first = side.x * row.start.u + side.y * row.start.v - side.offset;
    const float step = side.x * row.step.u + side.y * row.step.v;
    for (std::size_t i = 0; i < out.size(); ++i) {
      const float distance = first + step * static_cast<float>(static_cast<int>(i));
      out[i] = out[i] < distance ? distance : out[i];
    }
  }
}

// q = |p / radii|^2 is 1 on the ellipse, where its slope is about 2 / radius.
void distances_to(const EllipsePart& part, const ShapeRow& row, std::span<float> out) {
  const float first_u = (row.start.u - part.centre.u) / part.radius_u;
  const float first_v = (row.start.v - part.centre.v) / part.radius_v;
  const float step_u = row.step.u / part.radius_u;
  const float step_v = row.step.v / part.radius_v;
  const float half_radius = 0.5F * std::min(part.radius_u, part.radius_v);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto place = static_cast<float>(static_cast<int>(i));
    const float u = first_u + step_u * place;
    const float v = first_v + step_v * place;
    out[i] = (u * u + v * v - 1) * half_radius;
  }
}

// The square of the distance from the line has the slope 2 w at w from it.
void distances_to(const StrokePart& part, const ShapeRow& row, std::span<float> out) {
  const float along_u = part.to.u - part.from.u;
  const float along_v = part.to.v - part.from.v;
  const float square = along_u * along_u + along_v * along_v;
  const float inverse_square = square > 0 ? 1 / square : 0;
  const float first_u = row.start.u - part.from.u;
  const float first_v = row.start.v - part.from.v;
  const float width = part.half_width;
  const float inverse_slope = 0.5F / width;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto place = static_cast<float>(static_cast<int>(i));
    const float u = first_u + row.step.u * place;
    const float v = first_v + row.step.v * place;
    float share = (u * along_u + v * along_v) * inverse_square;
    share = share < 0 ? 0 : share;
    share = share > 1 ? 1 : share;
    const float off_u = u - share * along_u;
    const float off_v = v - share * along_v;
    out[i] = (off_u * off_u + off_v * off_v - width * width) * inverse_slope;
  }
}

}  // namespace

void outline_distances(const ShapeOutline& outline, const ShapeRow& row, std::span<float> distance,
                       std::span<float> scratch) {
  std::ranges::fill(distance, kFarAway);
  for (const OutlinePart& part : outline.parts) {
    std::visit([&](const auto& form) { distances_to(form, row, scratch); }, part.form);
    if (part.is_hole) {
      for (std::size_t i = 0; i < distance.size(); ++i)
        distance[i] = distance[i] < -scratch[i] ? -scratch[i] : distance[i];
    } else {
      for (std::size_t i = 0; i < distance.size(); ++i)
        distance[i] = scratch[i] < distance[i] ? scratch[i] : distance[i];
    }
  }
}

}  // namespace flex
