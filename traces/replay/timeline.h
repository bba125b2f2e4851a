#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "traces/replay/policy_result.h"

namespace flex {

/// Which iteration is drawn. What is left out: the online policy, else the last; its slowest iteration, of
/// the layer or the step that is given.
struct TimelineChoice {
  std::optional<ReplayPolicy> policy;
  std::optional<std::int64_t> step;
  std::optional<std::int32_t> layer;
};

/// One operation on one rank.
struct TimelineSpan {
  int rank = 0;
  StreamKind stream = StreamKind::kHost;
  Pass pass = Pass::kForward;
  std::string name;
  double start_us = 0;  ///< from the start of the iteration
  double end_us = 0;
  std::optional<std::int32_t> chunk;  ///< of operations that are in parts
};

/// One iteration of one layer: the forward pass, then the backward pass, as they were timed.
struct Timeline {
  static constexpr int kMaxRanks = 8;
  ReplayPolicy policy;
  std::int64_t step = 0;
  std::int32_t layer = 0;
  PlanPair plans;
  double total_us = 0;
  std::vector<int> ranks;  ///< that are shown, evenly picked; one, if it stands for all
  int world = 1;
  std::vector<TimelineSpan> spans;
};

/// Nothing without iterations.
/// @throws InputError if there is no such policy among the results, or no such iteration.
[[nodiscard]] std::optional<Timeline> make_timeline(const TimelineChoice& choice, const ScenarioTrace& trace,
                                                    std::span<const PolicyResult> results,
                                                    LoadSimulator& simulator);

}  // namespace flex
