#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/layer_options.h"
#include "cli/rank_options.h"

namespace flex::cli {

/// flexmoe bench --policy P[,P...]: the real layer under plans that policies choose, with routing that
/// moves.
struct PolicyBenchOptions {
  std::vector<std::string> policies;  ///< as parse_policy() reads them; empty: not asked for
  int iterations = 200;
  std::optional<double> drift;           ///< nothing: 2, unless an imbalance is named
  std::uint64_t memory_limit_bytes = 0;  ///< of the layer on a rank: plans that need more may not run
  std::string record;                    ///< file for the routing of the one policy's run; empty: none
};

void add_policy_bench_options(CLI::App& command, PolicyBenchOptions& options);

/// Runs the policies side by side and prints a table, or JSON. `cache`: the tuning cache that policies begin
/// with, if there is such a file. `imbalance`: none, or the name of one of traces/. @throws InputError.
void run_policy_bench(const PolicyBenchOptions& options, const LayerOptions& layer,
                      const RankOptions& machine, const std::string& imbalance, const std::string& cache,
                      bool json);

}  // namespace flex::cli
