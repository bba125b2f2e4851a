#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "models/data/image_set.h"

namespace flex {

enum class ImageFormat : std::uint8_t { kJpeg, kPng };

/// Images of more pixels are refused before memory is asked for.
inline constexpr std::int64_t kMaxImagePixels = std::int64_t{1} << 28;

/// What the first bytes of a file say it is; nothing if neither.
[[nodiscard]] std::optional<ImageFormat> image_format(std::string_view bytes);

/// Decodes a JPEG or PNG file's bytes into 8-bit RGB; `image`'s memory is used again.
///
/// The format is what the bytes say. Grey, palette and 16-bit images (their high bytes) become RGB; what is
/// transparent is laid on white; CMYK and YCCK are multiplied out, without a colour profile. Orientation and
/// profiles of cameras are ignored. A JPEG is decoded at a half, a quarter or an eighth of its size, which
/// costs less, if both sides stay at least `least_side`; 0: at full size.
/// @param where names the file in messages.
/// @throws InputError "WHERE: reason" for other bytes, a file that ends too soon or is corrupt so that pixels
///         are lost, and more than kMaxImagePixels.
void decode_image(std::string_view bytes, std::string_view where, std::int64_t least_side, RgbImage& image);

/// The same for bytes that are known to be of the format.
void decode_jpeg(std::string_view bytes, std::string_view where, std::int64_t least_side, RgbImage& image);
void decode_png(std::string_view bytes, std::string_view where, RgbImage& image);

/// @throws InputError if an image of this size is empty or too large.
void check_image_size(std::string_view where, std::int64_t height, std::int64_t width);

}  // namespace flex
