#include "traces/replay/scenario.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>

#include "base/json.h"
#include "base/nearest_name.h"
#include "base/require.h"
#include "costmodel/cluster_description.h"

namespace flex {
namespace {

struct Change {
  std::string_view key;
  std::string_view example;
  std::string_view meaning;
  void (*set)(Scenario& scenario, std::string_view value);
};

template <class T>
std::optional<T> parse_number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::int64_t parse_count(std::string_view key, std::string_view value) {
  constexpr std::int64_t kMax = 2'147'483'647;
  const auto number = parse_number<std::int64_t>(value);
  require(number && *number >= 1 && *number <= kMax, "{}={}: it is a whole number from 1 to {}", key, value,
          kMax);
  return *number;
}

double parse_factor(std::string_view key, std::string_view value) {
  constexpr double kMin = 1e-6;
  constexpr double kMax = 1e6;
  const bool has_unit = value.ends_with('x');
  const auto number = has_unit ? parse_number<double>(value.substr(0, value.size() - 1)) : std::nullopt;
  require(number && *number >= kMin && *number <= kMax,
          "{}={}: it is a factor on the cluster's figure, such as 0.5x", key, value);
  return *number;
}

DType parse_experts_dtype(std::string_view value) {
  const auto dtype = parse_dtype(value);
  require(dtype && is_floating(*dtype), "dtype={}: it is fp32, fp16, bf16 or fp64", value);
  return *dtype;
}

double parse_capacity_factor(std::string_view value) {
  const auto number = parse_number<double>(value);
  require(number && std::isfinite(*number),
          "capacity_factor={}: it is a number: above 0 fixed capacity, 0 dropless, below 0 dropless up to a "
          "limit",
          value);
  return *number;
}

ReshardPolicy parse_reshard(std::string_view value) {
  const auto policy = parse_reshard_policy(value);
  require(policy.has_value(), "reshard={}: it is split, tile or resample", value);
  return *policy;
}

constexpr Change kChanges[] = {
    {"k", "k=2", "experts that a token takes; counts are scaled",
     [](Scenario& s, std::string_view value) { s.top_k = parse_count("k", value); }},
    {"capacity_factor", "capacity_factor=1.0", "f: above 0 fixed capacity, 0 dropless",
     [](Scenario& s, std::string_view value) { s.capacity_factor = parse_capacity_factor(value); }},
    {"dtype", "dtype=bf16", "of tokens and experts",
     [](Scenario& s, std::string_view value) { s.dtype = parse_experts_dtype(value); }},
    {"hidden_dim", "hidden_dim=8192", "width of a whole expert",
     [](Scenario& s, std::string_view value) { s.hidden_dim = parse_count("hidden_dim", value); }},
    {"cluster", "cluster=dgx_h100", "a built-in cluster, or a file",
     [](Scenario& s, std::string_view value) {
       require(!value.empty(), "cluster=: it is a built-in cluster, or a file");
       s.cluster = value;
       s.calibration.clear();
     }},
    {"nodes", "nodes=64", "of the cluster; the trace is laid on their ranks",
     [](Scenario& s, std::string_view value) { s.nodes = static_cast<int>(parse_count("nodes", value)); }},
    {"intra_node_bandwidth", "intra_node_bandwidth=2x", "of the links inside a node",
     [](Scenario& s, std::string_view value) {
       s.intra_node_bandwidth = parse_factor("intra_node_bandwidth", value);
     }},
    {"inter_node_bandwidth", "inter_node_bandwidth=0.5x", "of the links between nodes",
     [](Scenario& s, std::string_view value) {
       s.inter_node_bandwidth = parse_factor("inter_node_bandwidth", value);
     }},
    {"reshard", "reshard=tile", "how a trace is laid on other ranks: split, tile or resample",
     [](Scenario& s, std::string_view value) { s.reshard = parse_reshard(value); }}};

std::string_view key_of(std::string_view change) { return change.substr(0, change.find('=')); }

}  // namespace

void set_change(Scenario& scenario, std::string_view text) {
  const std::size_t equals = text.find('=');
  require(equals != std::string_view::npos, "{} is no change; it is KEY=VALUE, as in k=2", quote_name(text));
  const std::string_view key = text.substr(0, equals);
  const auto* const change = std::ranges::find(kChanges, key, &Change::key);
  if (change == std::end(kChanges)) {
    std::vector<std::string> keys;
    for (const Change& one : kChanges) keys.emplace_back(one.key);
    const auto nearest = nearest_name(key, keys);
    fail("{} cannot be changed{}; these can: {}", quote_name(key),
         nearest ? fmt::format(" (did you mean {}?)", *nearest) : "", fmt::join(keys, ", "));
  }
  change->set(scenario, text.substr(equals + 1));
  std::erase_if(scenario.changes, [&](const std::string& other) { return key_of(other) == key; });
  scenario.changes.emplace_back(text);
}

Scenario compared_scenario(const Scenario& base, std::string_view text) {
  Scenario scenario = base;
  std::istringstream words{std::string(text)};
  int num_changes = 0;
  for (std::string word; words >> word; ++num_changes) set_change(scenario, word);
  require(num_changes > 0, "a scenario to compare with has changes, such as 'nodes=64 k=1'; there are none");
  scenario.name = text;
  return scenario;
}

std::string describe_changes() {
  std::string text;
  for (const Change& change : kChanges) text += fmt::format("\n  {:<26} {}", change.example, change.meaning);
  return text;
}

ScenarioMachine machine_of(const Scenario& scenario, int trace_world) {
  ScenarioMachine machine{.cluster = load_cluster(scenario.cluster, scenario.nodes)};
  if (!scenario.nodes) {
    const int ranks = machine.cluster.ranks_per_node;
    machine.cluster = load_cluster(scenario.cluster, std::max(1, (trace_world + ranks - 1) / ranks));
  }
  machine.calibration = scenario.calibration.empty() ? calibration_of(machine.cluster)
                                                     : read_calibration_file(scenario.calibration);
  machine.cluster.intra_node.bandwidth_GBps *= scenario.intra_node_bandwidth;
  machine.cluster.inter_node.bandwidth_GBps *= scenario.inter_node_bandwidth;
  return machine;
}

}  // namespace flex
