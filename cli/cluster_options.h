#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "costmodel/cluster.h"
#include "costmodel/cost_parameters.h"

namespace flex::cli {

/// A described cluster and its parameters on the command line, with the same names in every subcommand.
struct ClusterOptions {
  std::string cluster;  ///< empty: none was named
  std::optional<int> nodes;
  std::string calibration;

  /// @throws InputError, FileError as load_cluster().
  [[nodiscard]] Cluster load() const;
  /// Of the file, or the built-in ones of `cluster`.
  [[nodiscard]] Calibration calibration_of(const Cluster& cluster) const;
};

/// The options that were added, for what excludes them.
struct AddedClusterOptions {
  CLI::Option* cluster = nullptr;
  CLI::Option* nodes = nullptr;
  CLI::Option* calibration = nullptr;
};
AddedClusterOptions add_cluster_options(CLI::App& command, ClusterOptions& options);

}  // namespace flex::cli
