#pragma once

#include <string>

namespace flex::cli {

/// `flexmoe 0.1.0 (GNU 12.2.0, Release, CUDA, MPI)`.
[[nodiscard]] std::string version_text();

}  // namespace flex::cli
