#pragma once

#include "runtime/layer_suite.h"

namespace flex::cli {

/// Prints a suite's rows with the floor beside each figure, as a table or as JSON.
void print_suite(const SuiteResult& result, bool json);

}  // namespace flex::cli
