#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "costmodel/cluster.h"
#include "costmodel/plan.h"
#include "costmodel/workload.h"

namespace flex {

/// Pipeline degrees that are tried.
inline constexpr std::int32_t kPipelineDegrees[] = {1, 2, 4, 8};

/// All plans of a workload on a cluster. r is 0 or a divisor of the ranks that share an expert; r = 0 has one
/// plan, since it exchanges no tokens; d is 1, 2, 4 or 8 and at most the slots of a part; 2dh needs ranks
/// that fill whole nodes.
class PlanSpace {
 public:
  PlanSpace(const Workload& workload, const Cluster& cluster);

  /// In ascending order; never empty.
  [[nodiscard]] const std::vector<Plan>& plans() const& { return plans_; }
  [[nodiscard]] std::vector<Plan> plans() && { return std::move(plans_); }
  /// 0, then the divisors of shards(), ascending.
  [[nodiscard]] static std::vector<std::int32_t> parallel_degrees(const Workload& workload);

 private:
  std::vector<Plan> plans_;
};

/// Why `plan` cannot run, in words that say what could; nothing if it can.
[[nodiscard]] std::optional<std::string> why_illegal(const Plan& plan, const Workload& workload,
                                                     const Cluster& cluster);

/// why_illegal() without the words: allocates nothing.
[[nodiscard]] bool is_legal(const Plan& plan, const Workload& workload, const Cluster& cluster);

}  // namespace flex
