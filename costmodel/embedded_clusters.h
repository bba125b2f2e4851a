#pragma once

#include <span>
#include <string_view>

namespace flex {

/// A file of costmodel/clusters/, which the build puts into the library.
struct EmbeddedCluster {
  std::string_view name;
  std::string_view json;
};

/// In alphabetical order of their names.
[[nodiscard]] std::span<const EmbeddedCluster> embedded_clusters();

}  // namespace flex
