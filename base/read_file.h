#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace flex {

/// All bytes of a file (a pipe or /dev/stdin too).
/// @throws FileError if it cannot be opened or read; InputError if it holds more than `max_bytes`.
[[nodiscard]] std::string read_file(const std::filesystem::path& path, std::int64_t max_bytes);

}  // namespace flex
