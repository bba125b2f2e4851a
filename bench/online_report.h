#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "bench/online_run.h"

/// What is said of runs of plan policies.
namespace flex::bench {

/// A setting and its runs, one for each seed.
struct SettingRuns {
  OnlineSetting setting;
  std::vector<OnlineRun> runs;
};

/// A condition that the online policy must meet, and whether it does.
struct AcceptanceLine {
  std::string text;  ///< with what was found
  bool holds = false;
};

/// A line for each setting, the means over its runs: time over the oracle's of each policy; of the online one
/// the share of time that was explored, and how often its plans and the bucket changed.
[[nodiscard]] std::string table_of_settings(std::span<const SettingRuns> all);
/// A line for each policy: time over the oracle's and over the best static plan's, over all runs.
[[nodiscard]] std::string table_of_policies(std::span<const SettingRuns> all);
/// @param share the online policy's exploration share.
[[nodiscard]] std::vector<AcceptanceLine> judge(std::span<const SettingRuns> all, double share);
[[nodiscard]] nlohmann::ordered_json to_json(std::span<const SettingRuns> all);

}  // namespace flex::bench
