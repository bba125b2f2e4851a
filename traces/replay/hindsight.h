#pragma once

#include "traces/replay/outcome_table.h"
#include "traces/replay/scenario_trace.h"
#include "tuner/policy_context.h"

namespace flex {

/// The plans that may run at a load, in ascending order, and the default plan, which takes their place where
/// one may not.
[[nodiscard]] std::vector<Plan> plans_at(const PolicyContext& context, const LayerLoad& load);

/// The pair that is fastest over all iterations, the default plan running wherever it may not: what
/// StaticPolicy does. Of equally fast pairs the default, then the smaller one. Exact: all pairs are summed
/// up. `durations`: filled with plans_at() of each load.
[[nodiscard]] PlanPair best_static_pair(const ScenarioTrace& trace, const DurationTable& durations,
                                        const PolicyContext& context);

}  // namespace flex
