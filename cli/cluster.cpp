#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/table.h"
#include "costmodel/cluster_description.h"

// flexmoe cluster list|show NAME_OR_FILE|check FILE...
// Descriptions of clusters that plans can be simulated on; docs/cluster-format.md has their format.
namespace flex::cli {
namespace {

std::string bandwidth_text(const LinkFacts& link) {
  return link.bandwidth_GBps > 0 ? fmt::format("{}", link.bandwidth_GBps) : "-";
}

void list(bool json) {
  Table table({{"name", Align::kLeft},
               {"nodes"},
               {"ranks/node"},
               {"device", Align::kLeft},
               {"in the node GB/s"},
               {"between nodes GB/s"}});
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const std::string& name : builtin_clusters()) {
    const ClusterDescription one = read_cluster(name);
    const Cluster& c = one.cluster;
    table.add({name, fmt::format("1..{}", one.max_nodes), fmt::format("{}", c.ranks_per_node), c.device.name,
               bandwidth_text(c.intra_node), bandwidth_text(c.inter_node)});
    rows.push_back({{"name", name},
                    {"description", one.description},
                    {"max_nodes", one.max_nodes},
                    {"ranks_per_node", c.ranks_per_node},
                    {"device", c.device.name},
                    {"intra_node_GBps", c.intra_node.bandwidth_GBps},
                    {"inter_node_GBps", c.inter_node.bandwidth_GBps}});
  }
  json ? fmt::print("{}\n", rows.dump(2)) : fmt::print("{}", table.text());
}

void show(const ClusterDescription& one, bool json) {
  if (json) {
    fmt::print("{}\n", to_json(one).dump(2));
    return;
  }
  const Cluster& c = one.cluster;
  fmt::print("{}: {}\n{} ranks on {} of 1..{} nodes, {} rank(s) per device, {}\n\n", c.name, one.description,
             c.world(), c.nodes, one.max_nodes, c.ranks_per_device, c.device.name);
  Table table({{"figure", Align::kLeft}, {"value"}, {"source", Align::kLeft}});
  for (const SourcedFigure& figure : one.figures) {
    table.add({figure.key, fmt::format("{}", figure.value), figure.source});
  }
  fmt::print("{}", table.text());
}

struct CheckOptions {
  std::vector<std::string> files;
  bool json = false;
};

void check(const CheckOptions& options) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const std::string& file : options.files) {
    const ClusterDescription one = read_cluster_file(file);
    rows.push_back({{"file", file}, {"name", one.cluster.name}, {"figures", one.figures.size()}});
    if (!options.json) fmt::print("{}: ok, {}, {} figures\n", file, one.cluster.name, one.figures.size());
  }
  if (options.json) fmt::print("{}\n", rows.dump(2));
}

void add_list(CLI::App& cluster) {
  CLI::App* command = cluster.add_subcommand("list", "The clusters that are built in");
  auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "Print JSON");
  command->footer("Example:\n  flexmoe cluster list");
  command->callback([json] { list(*json); });
}

void add_show(CLI::App& cluster) {
  struct Options {
    std::string name_or_path;
    std::optional<int> nodes;
    bool json = false;
  };
  CLI::App* command = cluster.add_subcommand("show", "All figures of a cluster with their sources");
  auto options = std::make_shared<Options>();
  command->add_option("cluster", options->name_or_path, "A built-in name, or a JSON file")
      ->required()
      ->type_name("CLUSTER");
  command->add_option("--nodes", options->nodes, "Nodes of the cluster (its own default)");
  command->add_flag("--json", options->json, "Print the description, to be copied and edited");
  command->footer(
      "Examples:\n"
      "  flexmoe cluster show azure_ndv4_a100 --nodes 32\n"
      "  flexmoe cluster show dgx_h100 --json > mine.json");
  command->callback([options] { show(read_cluster(options->name_or_path, options->nodes), options->json); });
}

void add_check(CLI::App& cluster) {
  CLI::App* command = cluster.add_subcommand("check", "Validate descriptions; stops at the first bad one");
  auto options = std::make_shared<CheckOptions>();
  command->add_option("files", options->files, "JSON files")->required()->check(CLI::ExistingFile);
  command->add_flag("--json", options->json, "Print JSON");
  command->footer("Example:\n  flexmoe cluster check mine.json other.json");
  command->callback([options] { check(*options); });
}

}  // namespace

void add_cluster(CLI::App& app, Outcome&) {
  CLI::App* command = app.add_subcommand("cluster", "List, show and check descriptions of clusters");
  command->require_subcommand(1);
  add_list(*command);
  add_show(*command);
  add_check(*command);
}

}  // namespace flex::cli
