#pragma once

#include <nlohmann/json.hpp>

/// Small documents of the other commands, of invented figures.
namespace flex {

/// As `flexmoe tune --json` prints: two layers, two strategies.
[[nodiscard]] inline nlohmann::json sample_tune() {
  const auto search = [](const char* strategy, const char* plan, double us, int evaluations) {
    return nlohmann::json{{"strategy", strategy},
                          {"plan", plan},
                          {"backward_plan", "r1 d1 linear"},
                          {"total_us", us},
                          {"default_us", 2000.0},
                          {"gain", 2000.0 / us - 1},
                          {"evaluations", evaluations},
                          {"new_evaluations", 1},
                          {"complete", true},
                          {"regret", 0.0}};
  };
  const auto layer = [&](int tokens) {
    return nlohmann::json{{"tokens_per_rank", tokens},
                          {"model_dim", 64},
                          {"capacity", tokens / 8},
                          {"candidates", 18},
                          {"strategies",
                           {search("model", "r1 d2 linear", 1600.0 + tokens, 4),
                            search("exhaustive", "r0 d1 linear", 1500.0 + tokens, 18)}}};
  };
  return {{"on", "4 ranks"},
          {"pass", "training"},
          {"interrupted", false},
          {"cache", "none"},
          {"layers", {layer(128), layer(256)}}};
}

/// As `flexmoe simulate --scale --json` prints: three sizes, the best plan of each.
[[nodiscard]] inline nlohmann::json sample_simulate() {
  nlohmann::json sizes = nlohmann::json::array();
  for (const int ranks : {16, 32, 64}) {
    sizes.push_back({{"ranks", ranks},
                     {"nodes", ranks / 8},
                     {"experts", ranks},
                     {"capacity", 64},
                     {"fairseq_us", 9000.0 * ranks},
                     {"plans",
                      {{{"plan", "r1 d2 2dh"},
                        {"backward_plan", "r1 d2 2dh"},
                        {"total_us", 1234.5 * ranks},
                        {"error_us", 100.25 * ranks},
                        {"critical_path",
                         {{"gating_us", 100.0},
                          {"moving_us", 100.0},
                          {"experts_us", 500.0},
                          {"exchange_us", 534.5},
                          {"weights_us", 0.0},
                          {"host_us", 0.0}}},
                        {"memory_bytes", 123456789},
                        {"fits", true},
                        {"speedup", 9000.0 / 1234.5}}}}});
  }
  return {{"cluster", "azure_ndv4_a100"},
          {"pass", "training"},
          {"calibration", {{"description", "invented"}, {"fitted", false}}},
          {"sizes", sizes}};
}

}  // namespace flex
