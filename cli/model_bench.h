#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "cli/model_plans.h"
#include "cli/rank_options.h"
#include "kernels/dtype.h"

namespace flex::cli {

/// flexmoe bench --model CONFIG: a whole model instead of one layer.
struct ModelBenchOptions {
  std::string config;          ///< empty: not asked for
  std::int64_t batch = 0;      ///< images of a step; 0: the configured number
  std::optional<DType> dtype;  ///< nothing: the configured one
  bool trains = true;
  int warmup = 2;
  int repeats = 10;
  ModelPlanOptions plans;
};

void run_model_bench(const ModelBenchOptions& options, const RankOptions& machine, bool json);

}  // namespace flex::cli
