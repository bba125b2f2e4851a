#pragma once

#include <cstdint>
#include <filesystem>

#include "models/data/image_set.h"

namespace flex {

/// Reads a JPEG or PNG file; see decode_image() for `least_side` and what is made of it.
/// @throws FileError; InputError for what is no image, and in a build without image files.
void read_image_file(const std::filesystem::path& path, std::int64_t least_side, RgbImage& image);

}  // namespace flex
