#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "costmodel/cluster.h"

namespace flex {

/// A figure of a description and where it is from.
struct SourcedFigure {
  std::string key;  ///< with its unit: `intra_node.latency_us`
  double value = 0;
  std::string source;
};

/// A cluster as its JSON file describes it; docs/cluster-format.md has the format. It holds facts of the
/// hardware only: nothing that is fitted to measurements.
struct ClusterDescription {
  Cluster cluster;
  std::string description;  ///< one line
  int max_nodes = 1;
  std::vector<SourcedFigure> figures;  ///< in the order of the format
  std::string text;                    ///< the JSON text that it was read from
};

/// Reads a description. `nodes`: another number than the description's default. `where` begins messages.
/// @throws InputError that names `where`, the key and what would be right; or the number of nodes.
[[nodiscard]] ClusterDescription parse_cluster(std::string_view text, const std::string& where,
                                               std::optional<int> nodes = {});

/// The same from a file of at most 1 MiB. @throws InputError, FileError.
[[nodiscard]] ClusterDescription read_cluster_file(const std::filesystem::path& path,
                                                   std::optional<int> nodes = {});

/// A built-in cluster by its name, or else that of a file.
/// @throws InputError as above, and for what is neither, with the names that there are; FileError.
[[nodiscard]] ClusterDescription read_cluster(const std::string& name_or_path, std::optional<int> nodes = {});

/// read_cluster() for those who need no sources.
[[nodiscard]] Cluster load_cluster(const std::string& name_or_path, std::optional<int> nodes = {});

/// Names of the clusters that are part of the library, in alphabetical order.
[[nodiscard]] std::vector<std::string> builtin_clusters();

/// The document that was read, its default number of nodes replaced by the cluster's: reads back equal.
[[nodiscard]] nlohmann::ordered_json to_json(const ClusterDescription& description);

}  // namespace flex
