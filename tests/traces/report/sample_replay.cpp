#include "tests/traces/report/sample_replay.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/philox.h"

namespace flex {
namespace {

using Json = nlohmann::json;

constexpr std::array kPlans = {"r1 d1 linear", "r1 d2 2dh", "r2 d4 2dh", "r0 d1 linear"};
constexpr std::array kClasses = {"gating", "moving", "experts", "exchange", "weights", "host"};

/// Uniform in [0, 1): a function of what it is for.
double uniform(const SampleReplay& sample, int what, int layer, int step, int index = 0) {
  const std::uint64_t mixed =
      splitmix64(splitmix64(sample.seed + 1000003U * static_cast<unsigned>(what)) +
                 (static_cast<std::uint64_t>(layer) << 40U) + (static_cast<std::uint64_t>(step) << 16U) +
                 static_cast<unsigned>(index));
  return static_cast<double>(mixed >> 11U) / 9007199254740992.0;
}

/// Needed capacity over the balanced one: a slow drift with a burst in the middle.
double load_factor(const SampleReplay& sample, int layer, int step) {
  const double at = static_cast<double>(step) / sample.steps;
  const double burst = at > 0.4 && at < 0.6 ? 2.2 : 0;
  return 1.2 + 0.5 * std::sin(6 * at + layer) + burst + 0.15 * uniform(sample, 1, layer, step);
}

double plan_us(const SampleReplay& sample, int layer, int step, int plan, int nodes) {
  const double load = load_factor(sample, layer, step);
  constexpr std::array kSlope = {900.0, 700.0, 560.0, 150.0};
  constexpr std::array kFixed = {700.0, 900.0, 1200.0, 2600.0};
  const auto p = static_cast<std::size_t>(plan);
  return (kFixed[p] + kSlope[p] * load) * (1 + 0.1 * std::log2(nodes)) *
         (1 + 0.02 * uniform(sample, 2, layer, step, plan));
}

int best_plan(const SampleReplay& sample, int layer, int step, int nodes) {
  int best = 0;
  for (int plan = 1; plan < static_cast<int>(kPlans.size()); ++plan) {
    if (plan_us(sample, layer, step, plan, nodes) < plan_us(sample, layer, step, best, nodes)) best = plan;
  }
  return best;
}

/// The plan of a policy: static ones, one that is some steps late, the oracle.
int plan_of(const SampleReplay& sample, const std::string& policy, int layer, int step, int nodes) {
  if (policy == "static:r1 d1 linear") return 0;
  if (policy == "best-static") return 1;
  if (policy == "oracle") return best_plan(sample, layer, step, nodes);
  const int late = policy == "online" ? 3 : 9;
  return best_plan(sample, layer, std::max(0, step - late), nodes);
}

Json class_json(double total_us, int plan) {
  constexpr std::array<std::array<double, 6>, 4> kShares = {{{0.05, 0.10, 0.37, 0.45, 0.01, 0.02},
                                                             {0.06, 0.12, 0.43, 0.36, 0.01, 0.02},
                                                             {0.06, 0.13, 0.46, 0.26, 0.07, 0.02},
                                                             {0.06, 0.05, 0.50, 0.00, 0.37, 0.02}}};
  Json json;
  for (std::size_t c = 0; c < kClasses.size(); ++c)
    json[kClasses[c]] = total_us * kShares[static_cast<std::size_t>(plan)][c];
  return json;
}

Json policy_json(const SampleReplay& sample, const std::string& policy, int nodes) {
  std::vector<double> step_us(static_cast<std::size_t>(sample.steps));
  std::vector<double> regret_us(step_us.size());
  Json plan_series = Json::array();
  Json uses = Json::array();
  double total_us = 0;
  double best_us = 0;
  int changes = 0;
  for (int layer = 0; layer < sample.layers; ++layer) {
    Json plans = Json::array();
    for (int step = 0; step < sample.steps; ++step) {
      const int plan = plan_of(sample, policy, layer, step, nodes);
      const double us = plan_us(sample, layer, step, plan, nodes);
      const double least_us = plan_us(sample, layer, step, best_plan(sample, layer, step, nodes), nodes);
      step_us[static_cast<std::size_t>(step)] += us;
      regret_us[static_cast<std::size_t>(step)] += us - least_us;
      total_us += us;
      best_us += least_us;
      changes += !plans.empty() && plans.back() != plan ? 1 : 0;
      plans.push_back(plan);
    }
    plan_series.push_back(plans);
  }
  for (const char* plan : kPlans) uses.push_back({{"plans", plan}, {"iterations", 1}, {"total_us", 1.0}});
  return {{"policy", policy},
          {"resolved", policy == "best-static" ? Json("static:r1 d2 2dh") : Json()},
          {"total_us", total_us},
          {"error_us", total_us * 0.09},
          {"regret_us", total_us - best_us},
          {"regret_share", total_us / best_us - 1},
          {"memory",
           {{"peak_bytes", 3'221'225'472 + 1'000'000 * nodes}, {"fits", true}, {"infeasible_steps", 0}}},
          {"class_us", class_json(total_us, plan_of(sample, policy, 0, sample.steps / 2, nodes))},
          {"plans", uses},
          {"plan_changes", changes},
          {"measured_us", nullptr},
          {"series", {{"total_us", step_us}, {"regret_us", regret_us}, {"plan", plan_series}}}};
}

Json policies_json(const SampleReplay& sample, int nodes) {
  Json policies = Json::array();
  for (const char* policy : {"static:r1 d1 linear", "best-static", "dictionary", "online", "oracle"}) {
    policies.push_back(policy_json(sample, policy, nodes));
  }
  for (Json& policy : policies) {
    policy["speedup_over_default"] = policies[0]["total_us"].get<double>() / policy["total_us"].get<double>();
    policy["speedup_over_best_static"] =
        policies[1]["total_us"].get<double>() / policy["total_us"].get<double>();
  }
  return policies;
}

Json load_json(const SampleReplay& sample) {
  constexpr int kBins = 30;
  Json shares = Json::array();
  Json first = Json::array();
  Json layers = Json::array();
  const int steps_per_bin = std::max(1, sample.steps / kBins);
  for (int bin = 0; bin * steps_per_bin < sample.steps; ++bin) first.push_back(bin * steps_per_bin);
  for (int layer = 0; layer < sample.layers; ++layer) {
    layers.push_back(layer);
    Json bins = Json::array();
    for (std::size_t bin = 0; bin < first.size(); ++bin) {
      std::vector<double> cells;
      double sum = 0;
      for (int expert = 0; expert < sample.experts; ++expert) {
        const double hot = expert == (static_cast<int>(bin) + 7 * layer) % sample.experts ? 9 : 1;
        cells.push_back(hot * std::exp(1.2 * uniform(sample, 3, layer, 0, expert)) +
                        0.4 * uniform(sample, 4, layer, static_cast<int>(bin), expert));
        sum += cells.back();
      }
      for (double& cell : cells) cell /= sum;
      bins.push_back(cells);
    }
    shares.push_back(bins);
  }
  return {{"layers", layers},
          {"first_step", first},
          {"steps_per_bin", steps_per_bin},
          {"experts_per_cell", 1},
          {"share", shares}};
}

Json timeline_json(const SampleReplay& sample) {
  Json spans = Json::array();
  double end_us = 0;
  const auto add = [&](const char* stream, const char* pass, const std::string& name, double start_us,
                       double us, Json chunk) {
    spans.push_back({{"rank", 0},
                     {"stream", stream},
                     {"pass", pass},
                     {"name", name},
                     {"start_us", start_us},
                     {"end_us", start_us + us},
                     {"chunk", std::move(chunk)}});
    end_us = std::max(end_us, start_us + us);
  };
  add("compute", "forward", "gate", 0, 60, nullptr);
  add("compute", "forward", "route", 60, 40, nullptr);
  add("host", "forward", "agree_capacity", 100, 30, nullptr);
  add("compute", "forward", "encode", 130, 90, nullptr);
  for (int chunk = 0; chunk < 2; ++chunk) {
    const std::string part = chunk == 0 ? "#1of2" : "#2of2";
    add("communication", "forward", "dispatch/all_to_all" + part, 220 + 260 * chunk, 260, chunk);
    add("compute", "forward", "expert_ffn" + part, 480 + 300 * chunk, 300, chunk);
    add("communication", "forward", "combine/all_to_all" + part, 780 + 300 * chunk, 250, chunk);
  }
  add("compute", "forward", "decode", 1330, 80, nullptr);
  add("compute", "backward", "decode_backward", 1410, 120, nullptr);
  add("communication", "backward", "dispatch/all_to_all", 1530, 480, nullptr);
  add("compute", "backward", "expert_ffn_backward_data", 2010, 640, nullptr);
  add("communication", "backward", "combine/all_to_all", 2650, 470, nullptr);
  add("compute", "backward", "expert_ffn_backward_fc1", 2650, 350, nullptr);
  add("compute", "backward", "encode_backward", 3120, 90, nullptr);
  return {{"policy", "online"}, {"step", sample.steps / 2},
          {"layer", 1},         {"plans", "r1 d2 2dh / r1 d1 linear"},
          {"total_us", end_us}, {"ranks", {0}},
          {"world", 32},        {"spans", spans}};
}

Json scenario_json(const SampleReplay& sample, std::size_t s) {
  Json first = Json::array();
  Json needed = Json::array();
  Json bound = Json::array();
  for (int step = 0; step < sample.steps; ++step) first.push_back(step);
  for (int layer = 0; layer < sample.layers; ++layer) {
    Json needed_here = Json::array();
    Json bound_here = Json::array();
    for (int step = 0; step < sample.steps; ++step) {
      const bool is_there = layer == 0 || step != 5;  // a point without a record
      const auto slots = static_cast<std::int64_t>(64 * load_factor(sample, layer, step));
      needed_here.push_back(is_there ? Json(slots) : Json());
      bound_here.push_back(is_there ? Json(128) : Json());
    }
    needed.push_back(needed_here);
    bound.push_back(bound_here);
  }
  return {{"name", sample.scenarios[s]},
          {"cluster", "azure_ndv4_a100"},
          {"nodes", sample.nodes[s]},
          {"ranks_per_node", 8},
          {"world", 8 * sample.nodes[s]},
          {"device_memory_bytes", 42949672960},
          {"calibration",
           {{"cluster", "azure_ndv4_a100"},
            {"description", "a calibration of invented figures"},
            {"source", "none"},
            {"fitted", true}}},
          {"changes", s == 0 ? Json::array() : Json::array({"inter_node_bandwidth=0.5x"})},
          {"reshard", s == 0 ? Json() : Json("split")},
          {"choices", 1'000'000},
          {"dropped", {{"choices", 12'345}, {"share", 0.012345}, {"by_layer", Json::array()}}},
          {"policies", policies_json(sample, sample.nodes[s])},
          {"steps", {{"first", first}, {"steps_per_point", 1}}},
          {"needed_capacity", needed},
          {"capacity", bound},
          {"max_over_mean", needed},
          {"expert_load", load_json(sample)},
          {"timeline", timeline_json(sample)}};
}

}  // namespace

Json sample_replay(const SampleReplay& sample) {
  Json scenarios = Json::array();
  Json scaling = Json::array();
  for (std::size_t s = 0; s < sample.scenarios.size(); ++s) {
    scenarios.push_back(scenario_json(sample, s));
    if (sample.scenarios.size() < 2) continue;
    for (const Json& policy : scenarios.back()["policies"]) {
      scaling.push_back({{"scenario", sample.scenarios[s]},
                         {"ranks", 8 * sample.nodes[s]},
                         {"policy", policy["policy"]},
                         {"total_us", policy["total_us"]}});
    }
  }
  Json layers = Json::array();
  for (int layer = 0; layer < sample.layers; ++layer) {
    layers.push_back({{"experts", sample.experts},
                      {"top_k", 2},
                      {"capacity_factor", 1.0},
                      {"model_dim", 1024},
                      {"hidden_dim", 4096},
                      {"dtype", "bf16"},
                      {"tokens", 2048}});
  }
  const int iterations = sample.steps * sample.layers;
  return {{"flexmoe", "replay"},
          {"version", 1},
          {"trace",
           {{"file", "sample.jsonl.gz"},
            {"model", "sample model"},
            {"hardware", ""},
            {"source", "generated"},
            {"origins", {"generated"}},
            {"world", 32},
            {"ranks_per_node", 8},
            {"layers", layers},
            {"first_step", 0},
            {"last_step", sample.steps - 1},
            {"steps", sample.steps},
            {"iterations", iterations},
            {"backward_iterations", iterations},
            {"timed_passes", 0},
            {"dropped_records", 0},
            {"damage", nullptr}}},
          {"options", {{"seed", 1}, {"noise", 0.0}, {"model_error", 0.0}, {"memory_limit_bytes", nullptr}}},
          {"scenarios", scenarios},
          {"scaling", scaling}};
}

}  // namespace flex
