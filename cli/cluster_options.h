#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
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

/// The same for a command that runs on ranks (add_rank_options() came before) or, if a cluster is named, on
/// that instead. `help`: of --cluster.
AddedClusterOptions add_cluster_instead_of_ranks(CLI::App& command, ClusterOptions& options,
                                                 const std::string& help);

/// --memory-limit, with a unit; 0: no limit. `help`: what becomes of plans that need more.
void add_memory_limit(CLI::App& command, std::uint64_t& bytes, const std::string& help);

}  // namespace flex::cli
