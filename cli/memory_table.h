#pragma once

#include "runtime/memory_suite.h"

namespace flex::cli {

/// Prints the memory suite's rows beside the published figures, as a table or as JSON.
void print_memory_suite(const MemorySuiteResult& result, bool json);

}  // namespace flex::cli
