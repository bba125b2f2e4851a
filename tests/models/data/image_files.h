#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "models/data/image_set.h"

namespace flex::testing {

/// What a JPEG file holds, other than 8-bit YCbCr.
enum class JpegInks : std::uint8_t { kRgb, kGrey, kCmyk };

/// A JPEG file of the image: grey is its red channel; of CMYK, written as Adobe does, the inks are
/// (red, green, blue, 255), so that it decodes to the same colours.
[[nodiscard]] std::string encode_jpeg(const RgbImage& image, int quality, JpegInks inks = JpegInks::kRgb,
                                      bool progressive = false);

/// What a PNG file holds. Of kPalette the image must be grey; kGrey1 has one bit: red is at least 128.
enum class PngKind : std::uint8_t { kRgb, kRgb16, kRgbAlpha, kGrey1, kGrey16, kPalette };

/// A PNG file of the image. In kRgbAlpha every pixel has the given alpha.
[[nodiscard]] std::string encode_png(const RgbImage& image, PngKind kind = PngKind::kRgb, int alpha = 255,
                                     bool interlaced = false);

/// An image of smooth shapes, edges and fine texture with a spectrum like a photograph's.
[[nodiscard]] RgbImage textured_image(std::int64_t height, std::int64_t width, std::uint64_t seed);

/// All pixels of one colour.
[[nodiscard]] RgbImage plain_image(std::int64_t height, std::int64_t width, std::uint8_t red,
                                   std::uint8_t green, std::uint8_t blue);

void write_bytes(const std::filesystem::path& path, std::string_view bytes);

}  // namespace flex::testing
