#include <opencv2/core.hpp>
#include <opencv2/core/utility.hpp>
#include <opencv2/imgproc.hpp>

#include "models/data/resample.h"

namespace flex {
namespace {

constexpr std::int64_t kChannels = 3;

// Workers are threads already: OpenCV's would only stand in their way.
void switch_off_threads() {
  static const bool kOnce = [] {
    cv::setNumThreads(0);
    return true;
  }();
  static_cast<void>(kOnce);
}

// A header over memory that stays ours. OpenCV has no const one; sources are only read.
cv::Mat mat_over(const RgbImage& image, const PixelBox& box) {
  const std::int64_t row_bytes = image.width * kChannels;
  const std::uint8_t* first = image.pixels.data() + box.top * row_bytes + box.left * kChannels;
  return {static_cast<int>(box.height), static_cast<int>(box.width), CV_8UC3,
          const_cast<std::uint8_t*>(first), static_cast<std::size_t>(row_bytes)};
}

cv::Mat sized(RgbImage& image, std::int64_t height, std::int64_t width) {
  image.height = height;
  image.width = width;
  image.pixels.resize(static_cast<std::size_t>(height * width * kChannels));
  return mat_over(image, {0, 0, height, width});
}

int flag_of(Interpolation interpolation) {
  return interpolation == Interpolation::kBicubic ? cv::INTER_CUBIC : cv::INTER_LINEAR;
}

}  // namespace

void resize_box_opencv(const RgbImage& from, const PixelBox& box, Interpolation interpolation,
                       std::int64_t height, std::int64_t width, RgbImage& to) {
  switch_off_threads();
  cv::Mat target = sized(to, height, width);
  const bool grows = height > box.height || width > box.width;
  cv::resize(mat_over(from, box), target, target.size(), 0, 0,
             grows ? flag_of(interpolation) : cv::INTER_AREA);
}

void warp_opencv(const RgbImage& from, const AffineMap& map, Interpolation interpolation, const Rgb& fill,
                 RgbImage& to) {
  switch_off_threads();
  cv::Mat target = sized(to, from.height, from.width);
  const cv::Matx23d matrix(map.xx, map.xy, map.x0, map.yx, map.yy, map.y0);
  cv::warpAffine(mat_over(from, {0, 0, from.height, from.width}), target, matrix, target.size(),
                 flag_of(interpolation) | cv::WARP_INVERSE_MAP, cv::BORDER_CONSTANT,
                 cv::Scalar(fill[0], fill[1], fill[2]));
}

}  // namespace flex
