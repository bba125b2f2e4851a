#include "cli/suite_bench.h"

#include <vector>

#include "cli/memory_table.h"
#include "cli/progress.h"
#include "cli/suite_table.h"
#include "runtime/layer_suite.h"
#include "runtime/memory_suite.h"
#include "runtime/switching_benchmark.h"

namespace flex::cli {

void run_suite_bench(const std::string& suite, DType dtype, RankContext& context, bool json) {
  // The bar is wiped before anything is printed.
  const auto measure = [&](auto run) {
    Progress progress("suite " + suite);
    return run([&](int done, int total) { progress.update(done, total); });
  };
  if (suite == "switching") {
    print_switching(measure([&](auto tell) { return run_switching_suite(dtype, context, tell); }), json);
  } else if (suite == "profiling") {
    const auto layer = profiling_layer(dtype);
    print_profiling(measure([&](auto tell) { return measure_profiling(layer, context, tell); }), json);
  } else {
    print_suite(measure([&](auto tell) { return run_suite(suite, dtype, context, tell); }), json);
  }
}

void run_memory_bench(DType dtype, bool tf32, Device device, bool json) {
  MemorySuiteResult result;
  {
    Progress progress("suite memory");
    result =
        run_memory_suite(dtype, tf32, device, [&](int done, int total) { progress.update(done, total); });
  }
  print_memory_suite(result, json);
}

}  // namespace flex::cli
