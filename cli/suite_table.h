#pragma once

#include "runtime/layer_suite.h"
#include "runtime/profiling_benchmark.h"
#include "runtime/switching_benchmark.h"

namespace flex::cli {

/// Prints a suite's rows with the floor beside each figure, as a table or as JSON.
void print_suite(const SuiteResult& result, bool json);

/// A row for each pair of plans: what an iteration of either takes, and what taking turns adds.
void print_switching(const std::vector<SwitchingCost>& costs, bool json);

/// A row for each way of watching, with its limit.
void print_profiling(const ProfilingCosts& costs, bool json);

}  // namespace flex::cli
