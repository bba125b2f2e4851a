#include "models/data/image_decoder.h"

#include "base/require.h"

namespace flex {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kJpegMagic = "\xFF\xD8\xFF"sv;
constexpr std::string_view kPngMagic = "\x89PNG\r\n\x1A\n"sv;

}  // namespace

std::optional<ImageFormat> image_format(std::string_view bytes) {
  if (bytes.starts_with(kJpegMagic)) return ImageFormat::kJpeg;
  if (bytes.starts_with(kPngMagic)) return ImageFormat::kPng;
  return std::nullopt;
}

void check_image_size(std::string_view where, std::int64_t height, std::int64_t width) {
  require(height > 0 && width > 0, "{}: an image of {} x {} pixels has none", where, width, height);
  require(height <= kMaxImagePixels / width, "{}: {} x {} pixels are more than {}, the most decoded here",
          where, width, height, kMaxImagePixels);
}

void decode_image(std::string_view bytes, std::string_view where, std::int64_t least_side, RgbImage& image) {
  require(!bytes.empty(), "{}: is empty", where);
  const std::optional<ImageFormat> format = image_format(bytes);
  require(format.has_value(), "{}: is neither JPEG nor PNG", where);
  switch (*format) {
    case ImageFormat::kJpeg:
      return decode_jpeg(bytes, where, least_side, image);
    case ImageFormat::kPng:
      return decode_png(bytes, where, image);
  }
}

}  // namespace flex
