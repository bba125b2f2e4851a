#include "costmodel/cluster_description.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/json_object.h"
#include "base/nearest_name.h"
#include "base/read_file.h"
#include "base/require.h"
#include "costmodel/embedded_clusters.h"

namespace flex {
namespace {

constexpr std::int64_t kMaxFileBytes = std::int64_t{1} << 20;
constexpr int kMaxRanks = 1 << 20;
constexpr int kMaxPerNode = 1 << 10;
constexpr int kMaxProcessors = 1 << 20;

const JsonRange kPositive = JsonRange::above(0);
const JsonRange kNotNegative = JsonRange::at_least(0);

// Reads figures and keeps each with its source.
class FigureReader {
 public:
  template <class T>
  [[nodiscard]] std::optional<T> optional(JsonObject& json, std::string_view key, const JsonRange& range) {
    if (json.contains(key) && json.raw(key).is_number()) {
      const std::string number = json.raw(key).dump();
      json.reject(key, R"(is {} without its source; write {{"value": {}, "source": "where it is from"}})",
                  number, number);
    }
    std::optional<JsonObject> figure = json.optional<JsonObject>(key);
    if (!figure) return std::nullopt;
    const T value = figure->required<T>("value", range);
    figures_.push_back({.key = json.path(key),
                        .value = static_cast<double>(value),
                        .source = figure->required_text("source")});
    figure->finish();
    return value;
  }

  template <class T>
  [[nodiscard]] T required(JsonObject& json, std::string_view key, const JsonRange& range) {
    static_cast<void>(json.raw(key));  // refuses a missing key with the nearest one
    return *optional<T>(json, key, range);
  }

  [[nodiscard]] std::vector<SourcedFigure> take() { return std::move(figures_); }

 private:
  std::vector<SourcedFigure> figures_;
};

// It names files too.
std::string read_name(JsonObject& json) {
  auto name = json.required<std::string>("name");
  const bool plain = !name.empty() && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
  if (!plain) json.reject("name", "is {}; it must be letters, digits, - and _", quote_name(name));
  return name;
}

DeviceFacts read_device(JsonObject json, FigureReader& figures) {
  DeviceFacts device;
  device.name = json.required_text("name");
  device.kind = json.one_of("kind", {"gpu", "cpu"}) == "gpu" ? DeviceKind::kCuda : DeviceKind::kCpu;
  device.peak_fp64_TFLOPs = figures.required<double>(json, "peak_fp64_TFLOPs", kPositive);
  device.peak_fp32_TFLOPs = figures.required<double>(json, "peak_fp32_TFLOPs", kPositive);
  device.peak_tf32_TFLOPs = figures.optional<double>(json, "peak_tf32_TFLOPs", kPositive).value_or(0);
  device.peak_fp16_TFLOPs = figures.optional<double>(json, "peak_fp16_TFLOPs", kPositive).value_or(0);
  device.peak_bf16_TFLOPs = figures.optional<double>(json, "peak_bf16_TFLOPs", kPositive).value_or(0);
  device.memory_bandwidth_GBps = figures.required<double>(json, "memory_bandwidth_GBps", kPositive);
  device.copy_bandwidth_GBps = figures.required<double>(json, "copy_bandwidth_GBps", kPositive);
  device.memory_GiB = figures.required<double>(json, "memory_GiB", kPositive);
  const char* processors = device.kind == DeviceKind::kCuda ? "SMs" : "cores";
  device.processors = figures.required<int>(json, processors, JsonRange::between(1, kMaxProcessors));
  device.kernel_launch_us = figures.required<double>(json, "kernel_launch_us", kNotNegative);
  json.finish();
  return device;
}

// Leaves finish() to the caller, who may know more keys.
LinkFacts read_link(JsonObject& json, FigureReader& figures) {
  LinkFacts link;
  link.name = json.required_text("name");
  link.latency_us = figures.required<double>(json, "latency_us", kNotNegative);
  link.bandwidth_GBps = figures.required<double>(json, "bandwidth_GBps", kPositive);
  return link;
}

void read_inter_node(JsonObject json, FigureReader& figures, Cluster& cluster) {
  cluster.inter_node = read_link(json, figures);
  const int devices = cluster.devices_per_node();
  cluster.nics_per_node = figures.required<int>(json, "nics_per_node", JsonRange::between(1, devices));
  if (devices % cluster.nics_per_node != 0) {
    json.reject("nics_per_node", "is {}; it must divide the {} devices of a node", cluster.nics_per_node,
                devices);
  }
  json.finish();
}

// nodes, ranks_per_node and ranks_per_device.
void read_size(JsonObject& json, FigureReader& figures, ClusterDescription& description) {
  Cluster& cluster = description.cluster;
  auto nodes = json.required<JsonObject>("nodes");
  description.max_nodes = nodes.required<int>("max", JsonRange::between(1, kMaxRanks));
  cluster.nodes = nodes.required<int>("default", JsonRange::between(1, description.max_nodes));
  nodes.finish();
  const JsonRange per_node = JsonRange::between(1, kMaxPerNode);
  const int devices = figures.required<int>(json, "devices_per_node", per_node);
  cluster.ranks_per_device = json.optional<int>("ranks_per_device", per_node).value_or(1);
  cluster.ranks_per_node = devices * cluster.ranks_per_device;
  if (cluster.ranks_per_node > kMaxRanks / description.max_nodes) {
    nodes.reject("max", "is {} nodes of {} ranks; at most {} ranks are supported", description.max_nodes,
                 cluster.ranks_per_node, kMaxRanks);
  }
}

const EmbeddedFile* find_embedded(std::string_view name) {
  const auto found = std::ranges::find(embedded_clusters(), name, &EmbeddedFile::name);
  return found == embedded_clusters().end() ? nullptr : &*found;
}

}  // namespace

ClusterDescription parse_cluster(std::string_view text, const std::string& where, std::optional<int> nodes) {
  JsonObject json(parse_json(text, where), where);
  FigureReader figures;
  ClusterDescription description{.text = std::string(text)};
  Cluster& cluster = description.cluster;
  cluster.name = read_name(json);
  description.description = json.required_text("description");
  read_size(json, figures, description);
  cluster.device = read_device(json.required<JsonObject>("device"), figures);
  if (cluster.device.kind == DeviceKind::kCuda) {
    cluster.host_cores = figures.required<int>(json, "host_cores", JsonRange::between(1, kMaxProcessors));
  } else {
    if (json.contains("host_cores"))
      json.reject("host_cores", "is for GPUs; the cores of a cpu are its host's");
    cluster.host_cores = cluster.devices_per_node() * cluster.device.processors;
  }
  auto intra_node = json.required<JsonObject>("intra_node");
  cluster.intra_node = read_link(intra_node, figures);
  intra_node.finish();
  if (description.max_nodes > 1) {
    read_inter_node(json.required<JsonObject>("inter_node"), figures, cluster);
  } else if (auto inter_node = json.optional<JsonObject>("inter_node")) {
    read_inter_node(*std::move(inter_node), figures, cluster);
  }
  json.finish();
  description.figures = figures.take();

  cluster.nodes = nodes.value_or(cluster.nodes);
  require(cluster.nodes >= 1 && cluster.nodes <= description.max_nodes,
          "{}: {} nodes were asked for; it has at least 1 and at most {}", where, cluster.nodes,
          description.max_nodes);
  return description;
}

ClusterDescription read_cluster_file(const std::filesystem::path& path, std::optional<int> nodes) {
  return parse_cluster(read_file(path, kMaxFileBytes), path.string(), nodes);
}

ClusterDescription read_cluster(const std::string& name_or_path, std::optional<int> nodes) {
  if (const EmbeddedFile* found = find_embedded(name_or_path)) {
    return parse_cluster(found->json, std::string(found->name), nodes);
  }
  std::error_code ignored;  // what cannot be looked at is not there
  const auto kind = std::filesystem::status(name_or_path, ignored);
  if (std::filesystem::exists(kind) && !std::filesystem::is_directory(kind)) {
    return read_cluster_file(name_or_path, nodes);
  }
  const std::vector<std::string> names = builtin_clusters();
  const std::optional<std::string> nearest = nearest_name(name_or_path, names);
  fail("{} is neither a built-in cluster{} nor a file; built in are {}", quote_name(name_or_path),
       nearest ? fmt::format(" (did you mean {}?)", *nearest) : "", fmt::join(names, ", "));
}

Cluster load_cluster(const std::string& name_or_path, std::optional<int> nodes) {
  return read_cluster(name_or_path, nodes).cluster;
}

std::vector<std::string> builtin_clusters() {
  std::vector<std::string> names;
  for (const EmbeddedFile& cluster : embedded_clusters()) names.emplace_back(cluster.name);
  return names;
}

nlohmann::ordered_json to_json(const ClusterDescription& description) {
  auto json = nlohmann::ordered_json::parse(description.text);
  json["nodes"]["default"] = description.cluster.nodes;
  return json;
}

}  // namespace flex
