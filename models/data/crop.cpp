#include "models/data/crop.h"

#include <algorithm>
#include <cmath>

namespace flex {
namespace {

std::int64_t place_in(std::int64_t room, double share) {
  return static_cast<std::int64_t>(share * static_cast<double>(room + 1));
}

PixelBox centred(std::int64_t height, std::int64_t width, std::int64_t box_height, std::int64_t box_width) {
  return {(height - box_height) / 2, (width - box_width) / 2, box_height, box_width};
}

}  // namespace

CropDraw draw_crop(const CropRange& range, PhiloxStream& random) {
  CropDraw draw{};
  const double least_log = std::log(range.min_aspect);
  const double log_span = std::log(range.max_aspect) - least_log;
  for (CropDraw::Form& form : draw.forms) {
    form.area = range.min_area + (range.max_area - range.min_area) * random.uniform();
    form.aspect = std::exp(least_log + log_span * random.uniform());
  }
  draw.down = random.uniform();
  draw.across = random.uniform();
  return draw;
}

// The crop's sides are sqrt(area H W / aspect) and sqrt(area H W aspect); H W is at least the shorter side's
// square.
std::int64_t least_side(const CropDraw& draw, std::int64_t size) {
  const CropDraw::Form& form = draw.forms.front();
  const double longest = std::max(form.aspect, 1 / form.aspect);
  return static_cast<std::int64_t>(std::ceil(static_cast<double>(size) * std::sqrt(longest / form.area)));
}

PixelBox place_crop(const CropDraw& draw, const CropRange& range, std::int64_t height, std::int64_t width) {
  const double area = static_cast<double>(height) * static_cast<double>(width);
  for (const CropDraw::Form& form : draw.forms) {
    const std::int64_t box_height = std::lround(std::sqrt(form.area * area / form.aspect));
    const std::int64_t box_width = std::lround(std::sqrt(form.area * area * form.aspect));
    if (box_height < 1 || box_width < 1 || box_height > height || box_width > width) continue;
    return {place_in(height - box_height, draw.down), place_in(width - box_width, draw.across), box_height,
            box_width};
  }
  const double aspect = static_cast<double>(width) / static_cast<double>(height);
  if (aspect < range.min_aspect) {
    const std::int64_t box_height = std::lround(static_cast<double>(width) / range.min_aspect);
    return centred(height, width, std::clamp<std::int64_t>(box_height, 1, height), width);
  }
  if (aspect > range.max_aspect) {
    const std::int64_t box_width = std::lround(static_cast<double>(height) * range.max_aspect);
    return centred(height, width, height, std::clamp<std::int64_t>(box_width, 1, width));
  }
  return {0, 0, height, width};
}

std::int64_t resized_side(std::int64_t size, double share) {
  return std::lround(static_cast<double>(size) / share);
}

PixelBox central_box(std::int64_t height, std::int64_t width, double share) {
  const std::int64_t shorter = std::min(height, width);
  const std::int64_t side =
      std::clamp<std::int64_t>(std::lround(static_cast<double>(shorter) * share), 1, shorter);
  return centred(height, width, side, side);
}

}  // namespace flex
