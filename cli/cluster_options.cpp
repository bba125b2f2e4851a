#include "cli/cluster_options.h"

#include "costmodel/cluster_description.h"

namespace flex::cli {

Cluster ClusterOptions::load() const { return load_cluster(cluster, nodes); }

Calibration ClusterOptions::calibration_of(const Cluster& of) const {
  return calibration.empty() ? flex::calibration_of(of) : read_calibration_file(calibration);
}

AddedClusterOptions add_cluster_options(CLI::App& command, ClusterOptions& options) {
  AddedClusterOptions added;
  added.cluster =
      command
          .add_option("--cluster", options.cluster, "A built-in cluster, or a file; see flexmoe cluster list")
          ->type_name("CLUSTER")
          ->capture_default_str();
  added.nodes = command.add_option("--nodes", options.nodes, "Nodes of the cluster (its own default)");
  added.calibration = command
                          .add_option("--calibration", options.calibration,
                                      "A file of fitted parameters (the cluster's built-in ones)")
                          ->check(CLI::ExistingFile);
  return added;
}

AddedClusterOptions add_cluster_instead_of_ranks(CLI::App& command, ClusterOptions& options,
                                                 const std::string& help) {
  const AddedClusterOptions added = add_cluster_options(command, options);
  added.cluster->description(help);
  added.nodes->needs(added.cluster);
  for (const char* real : {"--ranks", "--ranks-per-node", "--launcher", "--device", "--tf32"}) {
    added.cluster->excludes(command.get_option(real));
  }
  return added;
}

void add_memory_limit(CLI::App& command, std::uint64_t& bytes, const std::string& help) {
  command.add_option("--memory-limit", bytes, help + ", e.g. 4GiB (0: no limit)")
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
}

}  // namespace flex::cli
