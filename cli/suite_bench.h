#pragma once

#include <string>

#include "kernels/device.h"
#include "kernels/dtype.h"
#include "runtime/rank_context.h"

/// `flexmoe bench --suite NAME`: sets of shapes with a name, on one rank.
namespace flex::cli {

/// Runs h200, switching or profiling and prints its table, or JSON. @throws InputError for another name.
void run_suite_bench(const std::string& suite, DType dtype, RankContext& context, bool json);

/// The same of the suite memory, which begins with an empty device: nothing may live on it.
void run_memory_bench(DType dtype, bool tf32, Device device, bool json);

}  // namespace flex::cli
