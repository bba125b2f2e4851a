#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "costmodel/cluster.h"
#include "costmodel/workload.h"
#include "tuner/trial.h"

/// Trials and search spaces in the formats of the autotuning community.
/// @source TuningSchema (github.com/odgaard/TuningSchema), as Kernel Tuner reads and writes it: T4 1.0.0 for
///         results, T1 1.0.0 for the space.
namespace flex {

/// A trial with the case that it belongs to.
struct KeyedTrial {
  TuningKey key;
  Trial trial;

  friend bool operator==(const KeyedTrial&, const KeyedTrial&) = default;
};

/// One T4 result for each trial. Times are milliseconds, as Kernel Tuner's. An object `flexmoe` beside T4's
/// own keys says what T4 has no place for: the case and the conditions.
[[nodiscard]] nlohmann::ordered_json to_t4(const std::vector<KeyedTrial>& trials);

/// The inverse: the same trials, but for `source`, which becomes imported (simulated stays simulated).
/// @param where begins every message: the file's name.
/// @throws InputError naming the result and the key: what T4 requires is missing or wrong, the plan or the
/// object `flexmoe` cannot be.
[[nodiscard]] std::vector<KeyedTrial> parse_t4(const nlohmann::json& document, const std::string& where);

/// The legal plans of a workload as a T1 description: values of each parameter, and conditions that are
/// expressions of Python. A layer is not one kernel: GlobalSize is the number of ranks, LocalSize that of a
/// node.
/// @param given_degree the one r of a pass that does not choose it.
[[nodiscard]] nlohmann::ordered_json to_t1(const Workload& workload, const Cluster& cluster,
                                           std::int32_t given_degree = kFreeDegree);

}  // namespace flex
