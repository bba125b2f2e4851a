#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace flex {

/// What sample_replay() makes.
struct SampleReplay {
  std::vector<std::string> scenarios = {"base"};
  std::vector<int> nodes = {4};  ///< of each scenario, of 8 ranks
  int steps = 120;
  int layers = 2;
  int experts = 32;
  std::uint64_t seed = 1;
};

/// A document as `flexmoe replay` writes it (docs/replay-format.md), of invented figures that hang together:
/// totals are sums of the series, shares add up to 1, and a burst in the middle makes other plans better.
[[nodiscard]] nlohmann::json sample_replay(const SampleReplay& sample);

}  // namespace flex
