#pragma once

#include <optional>

#include "costmodel/plan_pair.h"
#include "runtime/rank_context.h"

namespace flex {

/// What the environment variable FLEX_PLAN pins: a plan, or one for each pass, `r2 d4 2dh / r2 d1 linear`.
/// Nothing if it is not set, or empty. @throws InputError if it cannot be parsed.
[[nodiscard]] std::optional<PlanPair> pinned_plans();

/// The same for all ranks together. Collective.
/// @throws InputError on all ranks if it cannot be parsed, or is not the same on all of them.
[[nodiscard]] std::optional<PlanPair> pinned_plans_blocking(RankContext& context);

}  // namespace flex
