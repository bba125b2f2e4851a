#pragma once

#include <span>
#include <string_view>

namespace flex {

/// A file of costmodel/clusters/ or costmodel/calibrations/, which the build puts into the library.
struct EmbeddedFile {
  std::string_view name;
  std::string_view json;
};

/// In alphabetical order of their names.
[[nodiscard]] std::span<const EmbeddedFile> embedded_clusters();
/// Likewise; named like their clusters.
[[nodiscard]] std::span<const EmbeddedFile> embedded_calibrations();

}  // namespace flex
