#pragma once

#include <filesystem>
#include <string>

namespace flex {

/// Vega's modules, as the distribution has them (Debian, Ubuntu: package libjs-vega), in one script that
/// defines `modules`, an object from name to module.
/// @throws FileError for a file that cannot be read; InputError for one that cannot stand in a page.
[[nodiscard]] std::string vega_script(const std::filesystem::path& folder);

/// The folder with these modules: beside this program's installation, else where CMake found them.
/// @throws FileError that names the package.
[[nodiscard]] std::filesystem::path find_vega();

}  // namespace flex
