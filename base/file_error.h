#pragma once

#include <filesystem>
#include <string_view>
#include <system_error>

#include "base/require.h"

namespace flex {

/// Throws FileError "cannot ACTION PATH: reason", with the system's reason for `error_number` (an errno).
[[noreturn]] inline void fail_file(std::string_view action, const std::filesystem::path& path,
                                   int error_number) {
  fail<FileError>("cannot {} {}: {}", action, path.string(), std::system_category().message(error_number));
}

}  // namespace flex
