#include "costmodel/cluster_description.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "tests/base/expect_error.h"

namespace flex::testing {
namespace {

using ::testing::HasSubstr;

const std::filesystem::path kFolder = std::filesystem::path(FLEX_SOURCE_DIR) / "costmodel" / "clusters";

nlohmann::json ndv4() { return nlohmann::json::parse(read_cluster("azure_ndv4_a100").text); }

std::string error_of(const nlohmann::json& json) {
  return message_of<InputError>([&] { static_cast<void>(parse_cluster(json.dump(), "x.json")); });
}

/// What is said of NDv4 with another value at `pointer`.
std::string error_with(const std::string& pointer, const nlohmann::json& value) {
  nlohmann::json json = ndv4();
  json[nlohmann::json::json_pointer(pointer)] = value;
  return error_of(json);
}

/// What is said of NDv4 without `key` of the object at `pointer`.
std::string error_without(const std::string& pointer, const std::string& key) {
  nlohmann::json json = ndv4();
  EXPECT_EQ(json.at(nlohmann::json::json_pointer(pointer)).erase(key), 1);
  return error_of(json);
}

class BuiltinCluster : public ::testing::TestWithParam<std::string> {};

TEST_P(BuiltinCluster, IsItsFile) {
  const ClusterDescription built_in = read_cluster(GetParam());
  const ClusterDescription file = read_cluster_file(kFolder / (GetParam() + ".json"));
  EXPECT_EQ(built_in.text, file.text);
  EXPECT_EQ(built_in.cluster.name, GetParam());
}

TEST_P(BuiltinCluster, SaysAllThatACostModelNeeds) {
  const ClusterDescription one = read_cluster(GetParam());
  const Cluster& c = one.cluster;
  EXPECT_TRUE(c.is_described());
  EXPECT_EQ(c.world(), c.nodes * c.devices_per_node() * c.ranks_per_device);
  EXPECT_GE(c.host_cores, 1);
  EXPECT_LE(c.device.peak_fp64_TFLOPs, c.device.peak_fp32_TFLOPs);
  EXPECT_LE(c.device.copy_bandwidth_GBps, c.device.memory_bandwidth_GBps / 2);
  EXPECT_LE(c.intra_node.bandwidth_GBps, c.device.copy_bandwidth_GBps);
  if (one.max_nodes > 1) {
    EXPECT_GT(c.inter_node.latency_us, c.intra_node.latency_us);
    EXPECT_LT(c.inter_node.bandwidth_GBps, c.intra_node.bandwidth_GBps);
    EXPECT_GE(c.ranks_per_nic(), 1);
  }
  for (const SourcedFigure& figure : one.figures) {
    EXPECT_GE(figure.source.size(), 10) << figure.key;
    EXPECT_TRUE(figure.value > 0 || figure.key == "device.kernel_launch_us") << figure.key;
  }
}

TEST_P(BuiltinCluster, ReadsBackFromItsJson) {
  const ClusterDescription one = read_cluster(GetParam());
  const int nodes = one.max_nodes;
  const ClusterDescription largest = read_cluster(GetParam(), nodes);
  EXPECT_EQ(largest.cluster.nodes, nodes);
  const std::string text = to_json(largest).dump();
  const ClusterDescription again = parse_cluster(text, "again.json");
  EXPECT_EQ(again.cluster.nodes, nodes);
  EXPECT_EQ(to_json(again), to_json(largest));
  ASSERT_EQ(again.figures.size(), one.figures.size());
  for (std::size_t i = 0; i < one.figures.size(); ++i) {
    EXPECT_EQ(again.figures[i].key, one.figures[i].key);
    EXPECT_EQ(again.figures[i].value, one.figures[i].value);
    EXPECT_EQ(again.figures[i].source, one.figures[i].source);
  }
}

INSTANTIATE_TEST_SUITE_P(All, BuiltinCluster, ::testing::ValuesIn(builtin_clusters()),
                         [](const auto& test) { return test.param; });

TEST(BuiltinClusters, AreAllFilesOfTheFolder) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder))
    files.push_back(entry.path().stem().string());
  std::ranges::sort(files);
  EXPECT_EQ(files, builtin_clusters());
  EXPECT_EQ(files, (std::vector<std::string>{"azure_ndv4_a100", "cpu_host", "dgx_h100", "gb200_nvl72",
                                             "hgx_h200", "one_h200"}));
}

TEST(ClusterDescription, HoldsWhatTheFileSays) {
  const Cluster c = load_cluster("azure_ndv4_a100", 32);
  EXPECT_EQ(c.nodes, 32);
  EXPECT_EQ(c.world(), 256);
  EXPECT_EQ(c.topology().ranks_per_node, 8);
  EXPECT_EQ(c.devices_per_node(), 8);
  EXPECT_EQ(c.ranks_per_nic(), 1);
  EXPECT_EQ(c.host_cores, 96);
  EXPECT_EQ(c.device.kind, DeviceKind::kCuda);
  EXPECT_EQ(c.device.processors, 108);
  EXPECT_EQ(c.device.memory_GiB, 80);
  EXPECT_EQ(c.device.memory_bandwidth_GBps, 2039);
  EXPECT_EQ(c.device.copy_bandwidth_GBps, 1019.5);
  EXPECT_EQ(c.device.kernel_launch_us, 3.45);
  EXPECT_EQ(c.intra_node.bandwidth_GBps, 300);
  EXPECT_EQ(c.intra_node.latency_us, 0.6);
  EXPECT_EQ(c.inter_node.bandwidth_GBps, 25);
  EXPECT_EQ(c.inter_node.latency_us, 2.7);
  EXPECT_EQ(load_cluster("azure_ndv4_a100").nodes, 2);
}

TEST(ClusterDescription, RanksMayShareADeviceAndANic) {
  nlohmann::json json = ndv4();
  json["ranks_per_device"] = 2;
  json["inter_node"]["nics_per_node"]["value"] = 4;
  const Cluster shared = parse_cluster(json.dump(), "x.json").cluster;
  EXPECT_EQ(shared.ranks_per_node, 16);
  EXPECT_EQ(shared.devices_per_node(), 8);
  EXPECT_EQ(shared.ranks_per_nic(), 4);
  const Cluster host = load_cluster("cpu_host");
  EXPECT_EQ(host.ranks_per_node, 2);
  EXPECT_EQ(host.device.kind, DeviceKind::kCpu);
  EXPECT_EQ(host.host_cores, 2);
}

TEST(ClusterDescription, UnknownClustersNameTheNearest) {
  const auto error = [](const std::string& name) {
    return message_of<InputError>([&] { static_cast<void>(load_cluster(name)); });
  };
  EXPECT_EQ(
      error("azure_ndv4_a10"),
      "\"azure_ndv4_a10\" is neither a built-in cluster (did you mean azure_ndv4_a100?) nor a file; built "
      "in are azure_ndv4_a100, cpu_host, dgx_h100, gb200_nvl72, hgx_h200, one_h200");
  EXPECT_EQ(error("/nowhere/mine.json"),
            "\"/nowhere/mine.json\" is neither a built-in cluster nor a file; built in are azure_ndv4_a100, "
            "cpu_host, dgx_h100, gb200_nvl72, hgx_h200, one_h200");
}

TEST(ClusterDescription, NodesHaveTheirBounds) {
  const auto error = [](int nodes) {
    return message_of<InputError>([&] { static_cast<void>(load_cluster("azure_ndv4_a100", nodes)); });
  };
  EXPECT_EQ(error(0), "azure_ndv4_a100: 0 nodes were asked for; it has at least 1 and at most 256");
  EXPECT_EQ(error(257), "azure_ndv4_a100: 257 nodes were asked for; it has at least 1 and at most 256");
  EXPECT_EQ(error_with("/nodes/default", 0),
            "x.json: nodes.default: is 0; it must be at least 1 and at most 256");
  EXPECT_EQ(error_with("/nodes/default", 257),
            "x.json: nodes.default: is 257; it must be at least 1 and at most 256");
  EXPECT_EQ(error_with("/nodes/max", 0),
            "x.json: nodes.max: is 0; it must be at least 1 and at most 1048576");
  EXPECT_EQ(error_with("/nodes/max", 200000),
            "x.json: nodes.max: is 200000 nodes of 8 ranks; at most 1048576 ranks are supported");
}

TEST(ClusterDescription, FiguresArePositiveNumbersWithASource) {
  EXPECT_EQ(error_with("/intra_node/bandwidth_GBps/value", -300),
            "x.json: intra_node.bandwidth_GBps.value: is -300; it must be above 0");
  EXPECT_EQ(error_with("/inter_node/latency_us/value", -1),
            "x.json: inter_node.latency_us.value: is -1; it must be at least 0");
  EXPECT_EQ(error_with("/device/memory_GiB/value", "80"),
            "x.json: device.memory_GiB.value: is \"80\"; it must be a number");
  EXPECT_EQ(error_with("/device/SMs/value", 10.5),
            "x.json: device.SMs.value: is 10.5; it must be an integer");
  EXPECT_EQ(error_with("/device/SMs/value", 0),
            "x.json: device.SMs.value: is 0; it must be at least 1 and at most 1048576");
  EXPECT_EQ(error_with("/device/peak_bf16_TFLOPs/value", 0),
            "x.json: device.peak_bf16_TFLOPs.value: is 0; it must be above 0");
  EXPECT_EQ(error_without("/intra_node/latency_us", "source"),
            "x.json: intra_node.latency_us.source: is missing");
  EXPECT_EQ(error_with("/intra_node/latency_us/source", " "),
            "x.json: intra_node.latency_us.source: is empty");
  EXPECT_EQ(error_with("/intra_node/latency_us", 0.6),
            "x.json: intra_node.latency_us: is 0.6 without its source; write {\"value\": 0.6, \"source\": "
            "\"where it is from\"}");
  EXPECT_EQ(error_with("/intra_node/latency_us", "0.6"),
            "x.json: intra_node.latency_us: is \"0.6\"; it must be an object");
}

TEST(ClusterDescription, KeysAreKnownOnes) {
  EXPECT_EQ(error_with("/devise", 1), "x.json: devise: unknown key; did you mean \"device\"?");
  EXPECT_EQ(error_with("/device/peak_fp8_TFLOPs", 1),
            "x.json: device.peak_fp8_TFLOPs: unknown key; did you mean \"peak_fp64_TFLOPs\"?");
  EXPECT_EQ(error_with("/inter_node/contention", 1),
            "x.json: inter_node.contention: unknown key; known here: name, latency_us, bandwidth_GBps, "
            "nics_per_node");
  EXPECT_EQ(error_with("/intra_node/latency_us/unit", "us"),
            "x.json: intra_node.latency_us.unit: unknown key; known here: value, source");
  EXPECT_EQ(error_with("/intra_node/nics_per_node", 8),
            "x.json: intra_node.nics_per_node: unknown key; known here: name, latency_us, bandwidth_GBps");
  nlohmann::json json = ndv4();
  json["intra_node"]["latency_ns"] = json["intra_node"]["latency_us"];
  json["intra_node"].erase("latency_us");
  EXPECT_EQ(error_of(json), "x.json: intra_node.latency_us: is missing; there is \"latency_ns\"");
}

TEST(ClusterDescription, ThePartsFitEachOther) {
  EXPECT_EQ(error_without("", "inter_node"), "x.json: inter_node: is missing; there is \"intra_node\"");
  EXPECT_EQ(error_without("", "host_cores"), "x.json: host_cores: is missing");
  EXPECT_EQ(error_without("/device", "SMs"), "x.json: device.SMs: is missing");
  EXPECT_EQ(error_with("/inter_node/nics_per_node/value", 3),
            "x.json: inter_node.nics_per_node: is 3; it must divide the 8 devices of a node");
  EXPECT_EQ(error_with("/inter_node/nics_per_node/value", 16),
            "x.json: inter_node.nics_per_node.value: is 16; it must be at least 1 and at most 8");
  EXPECT_EQ(error_with("/ranks_per_device", 0),
            "x.json: ranks_per_device: is 0; it must be at least 1 and at most 1024");
  EXPECT_EQ(error_with("/device/kind", "tpu"),
            "x.json: device.kind: is \"tpu\"; it must be one of gpu, cpu (did you mean gpu?)");
  EXPECT_EQ(error_with("/name", "a b"), "x.json: name: is \"a b\"; it must be letters, digits, - and _");
  nlohmann::json host = nlohmann::json::parse(read_cluster("cpu_host").text);
  host["host_cores"] = 2;
  EXPECT_EQ(error_of(host), "x.json: host_cores: is for GPUs; the cores of a cpu are its host's");
}

TEST(ClusterDescription, TypesThatADeviceLacksMayBeLeftOut) {
  nlohmann::json json = ndv4();
  for (const char* key : {"peak_tf32_TFLOPs", "peak_fp16_TFLOPs", "peak_bf16_TFLOPs"})
    json["device"].erase(key);
  const DeviceFacts device = parse_cluster(json.dump(), "x.json").cluster.device;
  EXPECT_EQ(device.peak_TFLOPs(DType::kBF16), 0);
  EXPECT_EQ(device.peak_TFLOPs(DType::kF32, true), 19.5);
}

TEST(ClusterDescription, OneNodeNeedsNoNetwork) {
  nlohmann::json json = ndv4();
  json["nodes"] = {{"default", 1}, {"max", 1}};
  EXPECT_EQ(parse_cluster(json.dump(), "x.json").cluster.nics_per_node, 8);
  json.erase("inter_node");
  const Cluster c = parse_cluster(json.dump(), "x.json").cluster;
  EXPECT_EQ(c.nics_per_node, 0);
  EXPECT_EQ(c.inter_node.bandwidth_GBps, 0);
}

TEST(ClusterDescription, BadJsonIsToldByItsPlace) {
  const auto error = [](std::string_view text) {
    return message_of<InputError>([&] { static_cast<void>(parse_cluster(text, "x.json")); });
  };
  EXPECT_THAT(error("{"), HasSubstr("x.json:1:"));
  EXPECT_EQ(error("[]"), "x.json: is an array; it must be an object");
  EXPECT_EQ(error("{}"), "x.json: name: is missing");
}

}  // namespace
}  // namespace flex::testing
