#pragma once

#include <cstdint>

#include "costmodel/plan.h"
#include "costmodel/schedule.h"
#include "profiler/range_name.h"

namespace flex {

/// What an operation of a plan is called as a range: its label() with its layer (-1: none) and, of an
/// exchange, the algorithm, e.g. `moe/L03/dispatch/rail_all_to_all#1of4[2dh]`. Stable over runs; allocates
/// nothing.
[[nodiscard]] RangeName operation_range_name(const Operation& operation, const Plan& plan,
                                             std::int32_t layer);

}  // namespace flex
